-- One definition of minutes, of the current version and of a call's failure, for dashboards, the API and analysts.

-- The replay that caused the line; '' for live processing.
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS replay_id LowCardinality(String) DEFAULT '';

-- The ledger lines, each once. `audio_ms`: the audio of the line's recording, on one line of each recording and 0 on
-- its other lines, so that every sum of `audio_ms` counts each recording once, however often it was transcribed,
-- summarized or embedded. That line is the first transcription of live processing; else of a replay; else the
-- line with the highest price.
CREATE OR REPLACE VIEW bill AS
SELECT
    * EXCEPT (ingested_at, precedence),
    if(
        row_number() OVER (
            PARTITION BY tenant, call_id, part
            ORDER BY kind != 'transcription', replay_id != '', units DESC, price DESC, key
        ) = 1,
        duration_ms,
        0
    ) AS audio_ms
FROM ledger FINAL;

-- Sums of the ledger by day. `duration_ms`: audio of the recordings, each counted once.
CREATE OR REPLACE VIEW usage_daily AS
SELECT
    day,
    tenant,
    kind,
    provider,
    model,
    currency,
    count() AS lines,
    sum(b.units) AS units,
    sum(b.audio_ms) AS duration_ms,
    sum(b.provider_cost) AS provider_cost,
    sum(b.price) AS price,
    price - provider_cost AS margin
FROM bill AS b
GROUP BY day, tenant, kind, provider, model, currency;

-- The current transcript, per part: the last one, or the one that was chosen since. A transcript that a replay made with
-- `keep_current` is current only if there is no other. The same decision as in sinks.clickhouse.result_versions.
CREATE OR REPLACE VIEW current_transcripts AS
SELECT
    tenant,
    call_id,
    part,
    argMax(
        JSONExtractString(event, if(type = 'transcript.ready', 'transcript_id', 'version_id')),
        (
            NOT JSONExtractBool(event, 'keep_current'),
            if(JSONExtractBool(event, 'keep_current'), -1, 1) * toUnixTimestamp64Milli(occurred_at),
            event_id
        )
    ) AS transcript_id
FROM events FINAL
WHERE type = 'transcript.ready' OR (type = 'version.chosen' AND JSONExtractString(event, 'of') = 'transcript')
GROUP BY tenant, call_id, part;

-- The segments of the current transcripts. The table `segments` has those of all versions.
CREATE OR REPLACE VIEW current_segments AS
SELECT *
FROM segments FINAL
WHERE (tenant, call_id, part, transcript_id) IN (SELECT tenant, call_id, part, transcript_id FROM current_transcripts);

-- Looks up the replays of a call.
ALTER TABLE replays ADD INDEX IF NOT EXISTS replays_call call_id TYPE bloom_filter GRANULARITY 1;

-- Failures that are not healed and not being retried, by part and stage: the latest of each. Any result of its stage
-- heals a failure. A failure is being retried after its dead letter was replayed and until it fails again, and while a
-- replay repeats the stage's work. The same decision as in sinks.clickhouse.call_projection.
CREATE OR REPLACE VIEW current_failures AS
WITH
    letters AS
    (
        SELECT
            tenant, call_id, part, event_id, occurred_at,
            JSONExtractString(event, 'stage') AS stage, JSONExtractString(event, 'error') AS error
        FROM events FINAL
        WHERE type = 'stage.failed'
            AND JSONExtractString(event, 'stage') IN ('recorder', 'transcribe', 'summarize', 'embed')
    ),
    runs AS
    (
        SELECT
            replay_id,
            any(JSONExtractString(event, 'stage')) AS started_from,
            max(JSONExtractUInt(event, 'run')) AS run,
            maxIf(JSONExtractUInt(event, 'run'), JSONExtractString(event, 'action') = 'stop') = run AS stopped
        FROM replays FINAL
        WHERE type = 'replay.command'
        GROUP BY replay_id
    ),
    retries AS
    (
        SELECT
            p.tenant AS tenant, p.call_id AS call_id, p.part AS part, p.outcome AS outcome, p.occurred_at AS occurred_at,
            JSONExtractString(p.event, 'stage') AS failed_in, JSONExtractString(p.event, 'note') AS error,
            NOT r.stopped AND (p.outcome = 'begun' OR JSONExtractUInt(p.event, 'run') < r.run) AS in_progress,
            arrayJoin(multiIf(
                r.started_from IN ('media', 'recording'), ['transcribe', 'summarize', 'embed'],
                r.started_from = 'transcript', ['summarize', 'embed'],
                r.started_from = 'summary', ['summarize'],
                ['embed']
            )) AS stage
        FROM replays AS p FINAL
        INNER JOIN runs AS r ON p.replay_id = r.replay_id
        WHERE p.type = 'replay.part' AND p.outcome IN ('begun', 'failed')
    )
SELECT
    tenant,
    call_id,
    part,
    stage,
    argMax(failed_in, (occurred_at, place)) AS failed_stage,
    argMax(error, (occurred_at, place)) AS failed_reason,
    max(occurred_at) AS failed_at
FROM
(
    SELECT tenant, call_id, part, stage, stage AS failed_in, error, occurred_at, 1 AS place, true AS failure
    FROM letters
    UNION ALL
    SELECT
        l.tenant, l.call_id, l.part, l.stage, '' AS failed_in, '' AS error, n.occurred_at, 2 AS place, false AS failure
    FROM letters AS l
    INNER JOIN
    (
        SELECT tenant, JSONExtractString(event, 'letter_id') AS letter_id, occurred_at
        FROM events FINAL WHERE type = 'letter.replayed'
    ) AS n ON n.tenant = l.tenant AND n.letter_id = l.event_id
    UNION ALL
    SELECT
        tenant, call_id, part, stage, if(failed_in = '', stage, failed_in) AS failed_in, error, occurred_at, 3 AS place,
        true AS failure
    FROM retries
    WHERE outcome = 'failed' AND (tenant, call_id, part, stage) IN (SELECT tenant, call_id, part, stage FROM letters)
) AS told
WHERE (tenant, call_id, part, stage) NOT IN
    (
        SELECT
            tenant, call_id, part,
            transform(
                type,
                ['recording.ready', 'transcript.ready', 'summary.ready', 'embedding.ready'],
                ['recorder', 'transcribe', 'summarize', 'embed'],
                ''
            )
        FROM events
        WHERE type IN ('recording.ready', 'transcript.ready', 'summary.ready', 'embedding.ready')
    )
    AND (tenant, call_id, part, stage) NOT IN (SELECT tenant, call_id, part, stage FROM retries WHERE in_progress)
GROUP BY tenant, call_id, part, stage
HAVING argMax(failure, (occurred_at, place));

-- One row per call. `failures`: number of dead letters; `failed_stage`, `failed_reason`: the latest open failure, '' for
-- none; `status`: progress of the call, or 'failed'. The API derives a call's status in sinks.clickhouse.call_projection,
-- which also handles parts that are recorded while another part is live.
CREATE OR REPLACE VIEW calls AS
SELECT
    c.*,
    f.failed_stage AS failed_stage,
    f.failed_reason AS failed_reason,
    if(f.failed_stage != '', 'failed', c.reached) AS status
FROM
(
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
    GROUP BY tenant, call_id
) AS c
LEFT JOIN
(
    SELECT
        tenant, call_id,
        argMax(failed_stage, failed_at) AS failed_stage, argMax(failed_reason, failed_at) AS failed_reason
    FROM current_failures
    GROUP BY tenant, call_id
) AS f ON f.tenant = c.tenant AND f.call_id = c.call_id;
