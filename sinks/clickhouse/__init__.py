"""ClickHouse: every event, the segments of transcripts, and the ledger. All tables stand duplicates in any order."""
