-- What is told of replays. Apart from the calls' events, so that a replay that changes nothing changes nothing there.
CREATE TABLE IF NOT EXISTS replays
(
    replay_id   String,
    tenant      LowCardinality(String),
    call_id     String,
    part        UInt32,
    type        LowCardinality(String),
    event_id    String,
    outcome     LowCardinality(String), -- of a part; else ''
    occurred_at DateTime64(3, 'UTC'),
    event       String CODEC(ZSTD(3)),
    precedence  UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (replay_id, type, event_id);

-- Calls that were erased, or are to be: what is told of them later must not bring them back.
CREATE TABLE IF NOT EXISTS erased_calls
(
    tenant    LowCardinality(String),
    call_id   String,
    erased_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, call_id);
