-- Views for dashboards. Their results do not depend on the order of events or on duplicates.

-- One row per call, with its results. The API derives a call's status from its events in
-- sinks.clickhouse.call_projection, which also handles parts that are recorded while another part is live.
CREATE VIEW IF NOT EXISTS calls AS
SELECT
    tenant,
    call_id,
    min(e.started_at) AS started_at,
    maxIf(toNullable(fromUnixTimestamp64Milli(JSONExtractInt(event, 'ended_at_ms'), 'UTC')), type = 'recording.ready') AS ended_at,
    argMinIf(JSONExtractString(event, 'carrier'), e.occurred_at, type IN ('stream.started', 'recording.ready')) AS carrier,
    max(e.from_number) AS from_number,
    max(e.to_number) AS to_number,
    uniqExactIf(part, type = 'recording.ready') AS recordings,
    uniqExactIf(part, type = 'transcript.ready') AS transcripts,
    uniqExactIf(part, type = 'summary.ready') AS summaries,
    uniqExactIf(part, type = 'embedding.ready') AS embeddings,
    uniqExactIf(event_id, type = 'stage.failed') AS failures,
    arraySum(mapValues(maxMapIf(map(part, JSONExtractUInt(event, 'duration_ms')), type = 'recording.ready'))) AS duration_ms,
    multiIf(
        recordings = 0 AND transcripts = 0, 'live',
        summaries >= recordings AND embeddings >= recordings, 'complete',
        summaries >= recordings, 'summarized',
        transcripts >= recordings, 'transcribed',
        'recorded'
    ) AS reached
FROM events AS e
GROUP BY tenant, call_id;

-- Duration of each stage, per part: from hang-up (end of the recording's last stream) to the recording, from there to
-- the transcript, and from the transcript to summary and vectors. NULL for a stage without a result.
CREATE VIEW IF NOT EXISTS stage_latencies AS
SELECT
    tenant,
    call_id,
    part,
    minIf(toNullable(JSONExtractInt(event, 'ended_at_ms')), type = 'recording.ready') AS hung_up_ms,
    minIf(toNullable(toUnixTimestamp64Milli(e.occurred_at)), type = 'recording.ready') AS recorded_ms,
    minIf(toNullable(toUnixTimestamp64Milli(e.occurred_at)), type = 'transcript.ready') AS transcribed_ms,
    minIf(toNullable(toUnixTimestamp64Milli(e.occurred_at)), type = 'summary.ready') AS summarized_ms,
    minIf(toNullable(toUnixTimestamp64Milli(e.occurred_at)), type = 'embedding.ready') AS embedded_ms,
    fromUnixTimestamp64Milli(hung_up_ms, 'UTC') AS hung_up_at,
    recorded_ms - hung_up_ms AS hang_up_to_recorded_ms,
    transcribed_ms - recorded_ms AS recorded_to_transcribed_ms,
    summarized_ms - transcribed_ms AS transcribed_to_summarized_ms,
    embedded_ms - transcribed_ms AS transcribed_to_embedded_ms
FROM events AS e
WHERE type IN ('recording.ready', 'transcript.ready', 'summary.ready', 'embedding.ready')
GROUP BY tenant, call_id, part;

-- Sums of the ledger by day, from de-duplicated lines.
CREATE VIEW IF NOT EXISTS usage_daily AS
SELECT
    day,
    tenant,
    kind,
    provider,
    model,
    currency,
    count() AS lines,
    sum(l.units) AS units,
    sum(l.duration_ms) AS duration_ms,
    sum(l.provider_cost) AS provider_cost,
    sum(l.price) AS price,
    price - provider_cost AS margin
FROM ledger AS l FINAL
GROUP BY day, tenant, kind, provider, model, currency;
