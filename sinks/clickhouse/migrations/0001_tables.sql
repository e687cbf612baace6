-- Every table tolerates duplicate rows, in any order, merged or not: readers use FINAL, or aggregates that cannot count
-- a row twice (min, max, argMin, uniqExact). No query sums rows without de-duplication, and there is no materialized
-- view that counts.

-- Every event. `precedence` falls with time, so that of several events for one fact the first is kept: the same choice
-- as in sinks.clickhouse.call_projection, and the one that a late redelivery cannot change.
CREATE TABLE IF NOT EXISTS events
(
    tenant      LowCardinality(String),
    call_id     String,
    type        LowCardinality(String),
    part        UInt32,
    event_id    String,
    occurred_at DateTime64(3, 'UTC'),
    -- The earliest time at which the call existed according to the event; a call starts at the lowest of them.
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

-- Transcripts, one row per segment. `start_ms`, `end_ms`: from the recording's start.
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

-- The ledger: one line per charge. Not partitioned, since rows in two partitions never merge: a line that is delivered
-- with another day must still be the same line. `day` is the call's, so that a late redelivery does not move it.
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

-- API keys, stored as hashes. The version column is `revoked`: no later insert makes a revoked key valid again.
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
