-- Every table stands the same row inserted any number of times, in any order, merged or not: readers take FINAL, or
-- aggregates that cannot count a row twice (min, max, argMin, uniqExact). Nothing here sums what it has not
-- de-duplicated, and no materialized view counts.

-- Every event. `precedence` falls as time goes on, so that of several tellings of one fact the first is kept: the
-- same choice sinks.clickhouse.call_projection makes, and the one that cannot change by a late redelivery.
CREATE TABLE IF NOT EXISTS events
(
    tenant      LowCardinality(String),
    call_id     String,
    type        LowCardinality(String),
    part        UInt32,
    event_id    String,
    occurred_at DateTime64(3, 'UTC'),
    -- The earliest time the event knows its call to have been going on; a call started at the least of them.
    started_at  DateTime64(3, 'UTC'),
    from_number String,
    to_number   String,
    event       String CODEC(ZSTD(3)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    precedence  UInt64
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, call_id, type, part, event_id);

-- What was said, one row per transcript segment. `start_ms`, `end_ms`: from the recording's start.
CREATE TABLE IF NOT EXISTS segments
(
    tenant          LowCardinality(String),
    call_id         String,
    part            UInt32,
    transcript_id   String,
    segment         UInt32, -- from 0, in the order of the transcript
    start_ms        UInt32,
    end_ms          UInt32,
    channel         UInt8,
    speaker         LowCardinality(String),
    text            String CODEC(ZSTD(3)),
    words           UInt16,
    call_started_at DateTime64(3, 'UTC'),
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(ingested_at)
PARTITION BY toYYYYMM(call_started_at)
ORDER BY (tenant, call_id, part, transcript_id, segment);

-- The bill: one line per thing charged. Not partitioned, since rows in two partitions never merge: a line told with
-- another day must still be the same line. `day` is the call's, so that a late redelivery does not move it.
CREATE TABLE IF NOT EXISTS ledger
(
    tenant          LowCardinality(String),
    key             String,
    day             Date,
    call_id         String,
    part            UInt32,
    kind            LowCardinality(String),
    units           Int64,
    duration_ms     Int64,
    provider        LowCardinality(String),
    model           LowCardinality(String),
    provider_cost   Decimal(38, 12),
    price           Decimal(38, 12),
    currency        LowCardinality(String),
    call_started_at DateTime64(3, 'UTC'),
    occurred_at     DateTime64(3, 'UTC'),
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    precedence      UInt64,
    INDEX ledger_call call_id TYPE bloom_filter GRANULARITY 1,
    INDEX ledger_day day TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (tenant, key);

-- Who may ask. Keys are kept as hashes. The version is whether the key is revoked: no later insert brings it back.
CREATE TABLE IF NOT EXISTS api_keys
(
    id         String,
    tenant     String,
    name       String,
    hash       FixedString(64),
    admin      Bool,
    created_at DateTime64(3, 'UTC'),
    revoked_at Nullable(DateTime64(3, 'UTC')),
    revoked    UInt8
)
ENGINE = ReplacingMergeTree(revoked)
ORDER BY id;
