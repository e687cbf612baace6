"""Servers that `audiotext up` embeds: log, object storage, ClickHouse and vector store."""
