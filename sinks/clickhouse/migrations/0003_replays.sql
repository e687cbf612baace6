-- Events of replays. Separate from the events of calls, so that a replay without changes does not change those.
CREATE TABLE IF NOT EXISTS replays
(
    replay_id   String,
    tenant      LowCardinality(String),
    call_id     String,
    part        UInt32,
    type        LowCardinality(String),
    event_id    String,
    outcome     LowCardinality(String), -- of a part; '' for commands
    occurred_at DateTime64(3, 'UTC'),
    event       String CODEC(ZSTD(3)),
    precedence  UInt64
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (replay_id, type, event_id);

-- Calls that are erased or requested to be erased: later events must not make them visible again.
CREATE TABLE IF NOT EXISTS erased_calls
(
    tenant    LowCardinality(String),
    call_id   String,
    erased_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, call_id);
