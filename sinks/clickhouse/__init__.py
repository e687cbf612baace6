"""ClickHouse: events, transcript segments and the ledger. All tables tolerate duplicates in any order."""
