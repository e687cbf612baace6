"""Durable records of paid work: orders, answers, charges and published outputs.

Four kinds of objects in S3 hold everything: results (immutable), uploads for a provider (temporary), one `JobRecord`
per job and one `StageRecord` per stage and part. `Document` is the only way to read and change the records.
"""
