"""Stores for results: S3, ClickHouse and Qdrant. All writes are idempotent."""
