"""How results leave the log: S3, ClickHouse, Qdrant. Everything here is idempotent."""
