-- Every table tolerates duplicate rows, in any order, merged or not: readers use FINAL, or aggregates that cannot count
-- a row twice (min, max, argMin, uniqExact). No query sums rows without de-duplication, and there is no materialized
-- view that counts. `docs/clickhouse.md` is written from the comments.

-- `precedence` falls with time, so that of several events for one fact the first is kept: the same choice as in
-- sinks.clickhouse.call_projection, and the one that a late redelivery cannot change.
CREATE TABLE IF NOT EXISTS events
(
    tenant      LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id     String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    type        LowCardinality(String) COMMENT 'Type of the event, e.g. `transcript.ready`; docs/topics.md lists all types.',
    part        UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`; events of streams have 1.',
    event_id    String COMMENT 'Id of the event; the same fact always has the same id, e.g. `0f9e6f0c-5d0e-5b0a-9a63-0d6b9f0a8a11`.',
    occurred_at DateTime64(3, 'UTC') COMMENT 'Time of the fact, e.g. `2026-11-24 16:00:00.000`.',
    started_at  DateTime64(3, 'UTC') COMMENT 'Earliest time at which the call existed according to this event; the call starts at the lowest of them, e.g. `2026-11-24 16:00:00.000`.',
    from_number String COMMENT 'Number of the caller if the event names it, else empty, e.g. `+4930111`.',
    to_number   String COMMENT 'Number called if the event names it, else empty, e.g. `+4930222`.',
    event       String CODEC(ZSTD(3)) COMMENT 'The event as JSON, as on the log, e.g. `{"type": "stream.started", …}`.',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'Time of the insert, e.g. `2026-11-24 16:00:01.000`.',
    precedence  UInt64 COMMENT 'Internal: of several rows of one event the one with the highest value is kept, e.g. `18446742309709551615`.'
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, call_id, type, part, event_id)
COMMENT 'Every event of every call. One row per event; read it with `FINAL`, or use the view `call_events`.';

CREATE TABLE IF NOT EXISTS segments
(
    tenant          LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id         String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part            UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    transcript_id   String COMMENT 'Transcript that has the segment, e.g. `7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    segment         UInt32 COMMENT 'Number of the segment in the transcript, from 0, e.g. `12`.',
    start_ms        UInt32 COMMENT 'Start, in ms from the start of the recording, e.g. `1500`.',
    end_ms          UInt32 COMMENT 'End, in ms from the start of the recording, e.g. `4200`.',
    channel         UInt8 COMMENT 'Channel of the recording: 0 inbound, 1 outbound, e.g. `0`.',
    speaker         LowCardinality(String) COMMENT 'Name of the track, e.g. `inbound`.',
    text            String CODEC(ZSTD(3)) COMMENT 'Spoken words, e.g. `Good morning.`.',
    words           UInt16 COMMENT 'Number of words, e.g. `2`.',
    call_started_at DateTime64(3, 'UTC') COMMENT 'Start of the call, e.g. `2026-11-24 16:00:00.000`.',
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'Time of the insert, e.g. `2026-11-24 16:01:10.000`.'
)
ENGINE = ReplacingMergeTree(ingested_at)
PARTITION BY toYYYYMM(call_started_at)
ORDER BY (tenant, call_id, part, transcript_id, segment)
COMMENT 'Segments of the transcripts, of all versions. Use the view `current_segments`, which has one version of each call.';

-- Not partitioned, since rows in two partitions never merge: a line that is delivered with another day must still be the
-- same line. `day` is the call's, so that a late redelivery does not move it.
CREATE TABLE IF NOT EXISTS ledger
(
    tenant          LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    key             String COMMENT 'Key of the charge: kind and job. A key is charged once, e.g. `transcription_7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    day             Date COMMENT 'Day (UTC) on which the call started, e.g. `2026-11-24`.',
    call_id         String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part            UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    kind            LowCardinality(String) COMMENT 'Kind of work: `transcription`, `summary` or `embedding`, e.g. `transcription`.',
    units           Int64 COMMENT 'Charged units, 50 per minute of audio, e.g. `50`.',
    duration_ms     Int64 COMMENT 'Audio of the recording in ms, e.g. `60000`. Several lines of one recording repeat it: sum `audio_ms` of the view `bill` instead.',
    provider        LowCardinality(String) COMMENT 'Provider that did the work, e.g. `whisper`.',
    model           LowCardinality(String) COMMENT 'Model that did the work, e.g. `base`.',
    provider_cost   Decimal(38, 12) COMMENT 'Amount that the provider charges us, in `currency`, e.g. `0.0005`.',
    price           Decimal(38, 12) COMMENT 'Amount that the customer pays, in `currency`, e.g. `0.01`.',
    currency        LowCardinality(String) COMMENT 'Currency of both amounts, ISO 4217, e.g. `USD`. Never add amounts of two currencies.',
    call_started_at DateTime64(3, 'UTC') COMMENT 'Start of the call, e.g. `2026-11-24 16:00:00.000`.',
    occurred_at     DateTime64(3, 'UTC') COMMENT 'Time of the charge, e.g. `2026-11-24 16:01:05.000`.',
    prompt_tokens   UInt64 DEFAULT 0 COMMENT 'Tokens of the language model''s input, e.g. `1830`; 0 for other work.',
    cached_tokens   UInt64 DEFAULT 0 COMMENT 'Part of `prompt_tokens` from the provider''s cache, e.g. `512`.',
    answer_tokens   UInt64 DEFAULT 0 COMMENT 'Tokens of the output, e.g. `240`.',
    thought_tokens  UInt64 DEFAULT 0 COMMENT 'Tokens of reasoning before the output, charged like output, e.g. `96`.',
    replay_id       LowCardinality(String) DEFAULT '' COMMENT 'Replay that caused the line, empty for live processing, e.g. `5d0b2c1e`.',
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'Time of the insert, e.g. `2026-11-24 16:01:06.000`.',
    precedence      UInt64 COMMENT 'Internal: of several rows of one key the one with the highest value is kept, e.g. `18446742309709551615`.',
    INDEX ledger_call call_id TYPE bloom_filter GRANULARITY 1,
    INDEX ledger_day day TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (tenant, key)
COMMENT 'The ledger: one line per charge. Erasure of a call keeps its lines. Use the view `bill`, which has each line once.';

-- The version column is `revoked`: no later insert makes a revoked key valid again.
CREATE TABLE IF NOT EXISTS api_keys
(
    id         String COMMENT 'Id of the key, which `audiotext keys list` shows, e.g. `0123456789abcdef0123456789abcdef`.',
    tenant     String COMMENT 'Tenant whose calls the key sees, e.g. `acme`.',
    name       String COMMENT 'Name that the operator gave the key, e.g. `crm`.',
    hash       FixedString(64) COMMENT 'SHA-256 of the key, hexadecimal; the key itself is not stored, e.g. `9f86d081…`.',
    admin      Bool COMMENT 'True if the key sees every tenant, e.g. `false`.',
    created_at DateTime64(3, 'UTC') COMMENT 'Time of creation, e.g. `2026-11-24 16:00:00.000`.',
    revoked_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Time of revocation, NULL for a valid key, e.g. `2026-11-25 09:00:00.000`.',
    revoked    UInt8 COMMENT '1 if the key is revoked, e.g. `0`.'
)
ENGINE = ReplacingMergeTree(revoked)
ORDER BY id
COMMENT 'API keys, stored as hashes. Read-only users have no access.';

-- Share links, and sessions that were ended by a sign-out. A row is deleted when its token expires.
CREATE TABLE IF NOT EXISTS issued_tokens
(
    id         String COMMENT 'Id of the token (the claim jti), e.g. `q83vEjRWeJCr`.',
    tenant     String COMMENT 'Tenant of the call or of the session, empty for a session that sees every tenant, e.g. `acme`.',
    call_id    String COMMENT 'Call that a link shows, empty for a session, e.g. `CA0123456789abcdef0123456789abcdef`.',
    created_at DateTime64(3, 'UTC') COMMENT 'Time of creation, or of the sign-out, e.g. `2026-11-24 16:00:00.000`.',
    expires_at DateTime64(3, 'UTC') COMMENT 'Time after which the token is invalid anyway, e.g. `2026-11-25 16:00:00.000`.',
    revoked    UInt8 COMMENT '1 if the token was ended before its time, e.g. `0`.'
)
ENGINE = ReplacingMergeTree(revoked)
ORDER BY id
TTL toDateTime(expires_at) + INTERVAL 1 DAY
COMMENT 'Share links and ended sessions. Read-only users have no access.';

-- Separate from the events of calls, so that a replay without changes does not change those.
CREATE TABLE IF NOT EXISTS replays
(
    replay_id   String COMMENT 'Id of the replay, e.g. `5d0b2c1e`.',
    tenant      LowCardinality(String) COMMENT 'Owner of the part; for commands the tenant of the requesting key, empty for a key that sees every tenant, e.g. `acme`.',
    call_id     String COMMENT 'Call of the part, empty for commands, e.g. `CAd1e0a1b7`.',
    part        UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    type        LowCardinality(String) COMMENT '`replay.command` (start, stop, resume) or `replay.part` (result of one part), e.g. `replay.part`.',
    event_id    String COMMENT 'Id of the event, e.g. `0f9e6f0c-5d0e-5b0a-9a63-0d6b9f0a8a11`.',
    outcome     LowCardinality(String) COMMENT 'Result of the part: `begun`, `done`, `failed` or `skipped`; empty for commands, e.g. `done`.',
    occurred_at DateTime64(3, 'UTC') COMMENT 'Time of the event, e.g. `2026-11-25 10:00:00.000`.',
    event       String CODEC(ZSTD(3)) COMMENT 'The event as JSON, as on the log, e.g. `{"type": "replay.part", …}`.',
    precedence  UInt64 COMMENT 'Internal: of several rows of one event the one with the highest value is kept, e.g. `3`.',
    INDEX replays_call call_id TYPE bloom_filter GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (replay_id, type, event_id)
COMMENT 'Commands of replays and the outcomes of their parts. Read it with `FINAL`.';

-- Later events must not make an erased call visible again.
CREATE TABLE IF NOT EXISTS erased_calls
(
    tenant    LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id   String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    erased_at DateTime64(3, 'UTC') COMMENT 'Time of the request, later of the erasure, e.g. `2026-11-26 08:00:00.000`.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, call_id)
COMMENT 'Calls that are erased or requested to be erased. No view has them, except for the ledger''s views.';
