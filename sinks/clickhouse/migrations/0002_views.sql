-- Views for analysts and dashboards. Their results do not depend on the order of events or on duplicates, count each
-- result once however often a call is replayed, and leave out erased calls. A view that shows a state (status, current
-- version, failure) makes the same decision as the API; tests compare both.

CREATE OR REPLACE VIEW call_events
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    type LowCardinality(String) COMMENT 'Type of the event, e.g. `transcript.ready`; docs/topics.md lists all types.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`; events of streams have 1.',
    event_id String COMMENT 'Id of the event; the same fact always has the same id, e.g. `0f9e6f0c-5d0e-5b0a-9a63-0d6b9f0a8a11`.',
    occurred_at DateTime64(3, 'UTC') COMMENT 'Time of the fact, e.g. `2026-11-24 16:00:00.000`.',
    started_at DateTime64(3, 'UTC') COMMENT 'Earliest time at which the call existed according to this event, e.g. `2026-11-24 16:00:00.000`.',
    from_number String COMMENT 'Number of the caller if the event names it, else empty, e.g. `+4930111`.',
    to_number String COMMENT 'Number called if the event names it, else empty, e.g. `+4930222`.',
    event String COMMENT 'The event as JSON, as on the log; read fields with JSONExtract functions, e.g. `{"type": "stream.started", …}`.'
)
AS
SELECT tenant, call_id, type, part, event_id, occurred_at, started_at, from_number, to_number, event
FROM events FINAL
WHERE (tenant, call_id) NOT IN (SELECT tenant, call_id FROM erased_calls)
COMMENT 'Every event of every call, each once, without the events of erased calls.';

-- The history of a part is a list of tuples (time, event id, chosen, keep_current, version, event), ordered by time. The
-- last version is current, unless another version was chosen since, or a replay made it with `keep_current`: the same
-- decision as in sinks.clickhouse.result_versions.
CREATE OR REPLACE VIEW current_transcripts
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    transcript_id String COMMENT 'Id of the transcript, e.g. `7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    versions UInt32 COMMENT 'Number of versions of this transcript, including this one, e.g. `2`.',
    language String COMMENT 'Spoken language, ISO 639-1, e.g. `en`.',
    provider String COMMENT 'Provider that made it, e.g. `whisper`.',
    model String COMMENT 'Model that made it, e.g. `base`.',
    segments UInt32 COMMENT 'Number of segments, e.g. `42`.',
    words UInt32 COMMENT 'Number of words, e.g. `310`.',
    made_at DateTime64(3, 'UTC') COMMENT 'Time at which it was made, e.g. `2026-11-24 16:01:05.000`.',
    replay_id String COMMENT 'Replay that made it, empty for live processing, e.g. `5d0b2c1e`.'
)
AS
WITH arrayLast(x -> x.5 = transcript_id AND NOT x.3, history) AS current
SELECT
    tenant,
    call_id,
    part,
    arrayFold(
        (version, x) -> if(x.3, if(has(ids, x.5), x.5, version), if(version = '' OR NOT x.4, x.5, version)),
        history,
        ''
    ) AS transcript_id,
    length(ids) AS versions,
    JSONExtractString(current.6, 'language') AS language,
    JSONExtractString(current.6, 'provider') AS provider,
    JSONExtractString(current.6, 'model') AS model,
    JSONExtractUInt(current.6, 'segments') AS segments,
    JSONExtractUInt(current.6, 'words') AS words,
    current.1 AS made_at,
    JSONExtractString(current.6, 'replay_id') AS replay_id
FROM
(
    SELECT
        tenant,
        call_id,
        part,
        arraySort(groupArray((
            occurred_at,
            event_id,
            type = 'version.chosen',
            JSONExtractBool(event, 'keep_current'),
            JSONExtractString(event, if(type = 'version.chosen', 'version_id', 'transcript_id')),
            event
        ))) AS history,
        arrayDistinct(arrayMap(x -> x.5, arrayFilter(x -> NOT x.3, history))) AS ids
    FROM call_events
    WHERE type = 'transcript.ready' OR (type = 'version.chosen' AND JSONExtractString(event, 'of') = 'transcript')
    GROUP BY tenant, call_id, part
)
WHERE notEmpty(ids)
COMMENT 'The current transcript of each recording: the one that the API shows.';

-- The segments of the current transcripts. The table `segments` has those of all versions.
CREATE OR REPLACE VIEW current_segments
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    transcript_id String COMMENT 'Transcript that has the segment, e.g. `7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    segment UInt32 COMMENT 'Number of the segment in the transcript, from 0, e.g. `12`.',
    start_ms UInt32 COMMENT 'Start, in ms from the start of the recording, e.g. `1500`.',
    end_ms UInt32 COMMENT 'End, in ms from the start of the recording, e.g. `4200`.',
    channel UInt8 COMMENT 'Channel of the recording: 0 inbound, 1 outbound, e.g. `0`.',
    speaker LowCardinality(String) COMMENT 'Name of the track, e.g. `inbound`.',
    text String COMMENT 'Spoken words, e.g. `Good morning.`.',
    words UInt16 COMMENT 'Number of words, e.g. `2`.',
    call_started_at DateTime64(3, 'UTC') COMMENT 'Start of the call, e.g. `2026-11-24 16:00:00.000`.'
)
AS
SELECT
    tenant, call_id, part, transcript_id, segment, start_ms, end_ms, channel, speaker, text, words, call_started_at
FROM segments FINAL
WHERE (tenant, call_id, part, transcript_id) IN (SELECT tenant, call_id, part, transcript_id FROM current_transcripts)
COMMENT 'The segments of the current transcripts: one version of each call.';

-- The history as in `current_transcripts`, with the summary's transcript as a seventh field. The current summary is one
-- of the current transcript or, if that has none, of any transcript.
CREATE OR REPLACE VIEW current_summaries
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    summary_id String COMMENT 'Id of the summary, e.g. `7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    transcript_id String COMMENT 'Transcript that was summarized, e.g. `7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    versions UInt32 COMMENT 'Number of versions of this summary, including this one, e.g. `2`.',
    provider String COMMENT 'Provider that made it, e.g. `gemini`.',
    model String COMMENT 'Model that made it, e.g. `gemini-2.5-flash`.',
    abstract String COMMENT 'Summary in a few sentences, e.g. `The caller moves an appointment.`.',
    topics Array(String) COMMENT 'Topics; only from a language model, e.g. `[''appointment'']`.',
    sentiment Map(String, String) COMMENT 'Sentiment by speaker: positive, neutral, negative or mixed; only from a language model, e.g. `{''inbound'': ''positive''}`.',
    outcome String COMMENT 'Result of the call; only from a language model, e.g. `resolved`.',
    fields Map(String, String) COMMENT 'The tenant''s own fields by name; only from a language model, e.g. `{''order'': ''4711''}`.',
    made_at DateTime64(3, 'UTC') COMMENT 'Time at which it was made, e.g. `2026-11-24 16:01:07.000`.',
    replay_id String COMMENT 'Replay that made it, empty for live processing, e.g. `5d0b2c1e`.'
)
AS
WITH
    arrayFilter(x -> NOT x.3, history) AS made,
    arrayFilter(x -> x.7 = t.transcript_id, made) AS matching,
    if(empty(matching), made, matching) AS candidates,
    arrayMap(x -> x.5, candidates) AS ids,
    arrayLast(x -> x.5 = summary_id, candidates) AS current
SELECT
    h.tenant AS tenant,
    h.call_id AS call_id,
    h.part AS part,
    arrayFold(
        (version, x) -> if(x.3, if(has(ids, x.5), x.5, version), if(version = '' OR NOT x.4, x.5, version)),
        arrayFilter(x -> x.3 OR has(ids, x.5), history),
        ''
    ) AS summary_id,
    current.7 AS transcript_id,
    length(arrayDistinct(arrayMap(x -> x.5, made))) AS versions,
    JSONExtractString(current.6, 'provider') AS provider,
    JSONExtractString(current.6, 'model') AS model,
    JSONExtractString(current.6, 'abstract') AS abstract,
    JSONExtract(current.6, 'topics', 'Array(String)') AS topics,
    CAST(
        arrayMap(
            x -> (JSONExtractString(x, 'speaker'), JSONExtractString(x, 'sentiment')),
            JSONExtractArrayRaw(current.6, 'sentiment')
        ),
        'Map(String, String)'
    ) AS sentiment,
    JSONExtractString(current.6, 'outcome') AS outcome,
    JSONExtract(current.6, 'fields', 'Map(String, String)') AS fields,
    current.1 AS made_at,
    JSONExtractString(current.6, 'replay_id') AS replay_id
FROM
(
    SELECT
        tenant,
        call_id,
        part,
        arraySort(groupArray((
            occurred_at,
            event_id,
            type = 'version.chosen',
            JSONExtractBool(event, 'keep_current'),
            if(
                type = 'version.chosen',
                JSONExtractString(event, 'version_id'),
                extract(JSONExtractString(event, 'summary', 'key'), '([^/]+?)(?:[.][^./]*)?$')
            ),
            event,
            JSONExtractString(event, 'transcript_id')
        ))) AS history
    FROM call_events
    WHERE type = 'summary.ready' OR (type = 'version.chosen' AND JSONExtractString(event, 'of') = 'summary')
    GROUP BY tenant, call_id, part
    HAVING max(type = 'summary.ready')
) AS h
LEFT JOIN current_transcripts AS t ON t.tenant = h.tenant AND t.call_id = h.call_id AND t.part = h.part
COMMENT 'The current summary of each recording: the one that the API shows.';

-- Failures that are not healed and not being retried, by part and stage: the latest of each. Any result of its stage
-- heals a failure. A failure is being retried after its dead letter was replayed and until it fails again, and while a
-- replay repeats the stage's work. The same decision as in sinks.clickhouse.call_projection.
CREATE OR REPLACE VIEW current_failures
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    stage String COMMENT 'Stage whose result is missing: `recorder`, `transcribe`, `summarize` or `embed`, e.g. `transcribe`.',
    failed_stage String COMMENT 'Stage that failed; differs from `stage` if a replay failed earlier, e.g. `transcribe`.',
    failed_reason String COMMENT 'Error message, e.g. `401 Incorrect API key`.',
    failed_at DateTime64(3, 'UTC') COMMENT 'Time of the latest failure, e.g. `2026-11-24 16:03:00.000`.'
)
AS
WITH
    letters AS
    (
        SELECT
            tenant, call_id, part, event_id, occurred_at,
            JSONExtractString(event, 'stage') AS stage, JSONExtractString(event, 'error') AS error
        FROM call_events
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
        FROM call_events WHERE type = 'letter.replayed'
    ) AS n ON n.tenant = l.tenant AND n.letter_id = l.event_id
    UNION ALL
    SELECT
        tenant, call_id, part, stage, if(failed_in = '', stage, failed_in) AS failed_in, error, occurred_at, 3 AS place,
        true AS failure
    FROM retries
    WHERE outcome = 'failed' AND (tenant, call_id, part, stage) IN (SELECT tenant, call_id, part, stage FROM letters)
) AS attempts
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
        FROM call_events
        WHERE type IN ('recording.ready', 'transcript.ready', 'summary.ready', 'embedding.ready')
    )
    AND (tenant, call_id, part, stage) NOT IN (SELECT tenant, call_id, part, stage FROM retries WHERE in_progress)
GROUP BY tenant, call_id, part, stage
HAVING argMax(failure, (occurred_at, place))
COMMENT 'Failures that still stand: without a result of the stage since, and not being retried.';

CREATE OR REPLACE VIEW parts
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    status String COMMENT 'Progress: `recorded`, `transcribed`, `summarized`, `complete` or `failed`, e.g. `complete`.',
    failed_stage String COMMENT 'Stage of the latest failure that still stands, empty for none, e.g. `transcribe`.',
    failed_reason String COMMENT 'Reason of that failure, empty for none, e.g. `401 Incorrect API key`.',
    failed_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Time of that failure, NULL for none, e.g. `2026-11-24 16:03:00.000`.',
    started_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Start of the recording, NULL without a recording, e.g. `2026-11-24 16:00:00.000`.',
    ended_at Nullable(DateTime64(3, 'UTC')) COMMENT 'End of the recording, NULL without a recording, e.g. `2026-11-24 16:01:00.000`.',
    duration_ms UInt64 COMMENT 'Length of the audio in ms, e.g. `60000`.',
    missing_ms UInt64 COMMENT 'Missing audio in ms, summed over all tracks, e.g. `400`.',
    close_reason String COMMENT 'Reason for the end of the recording, empty without a recording, e.g. `ended`.',
    transcript_id String COMMENT 'Current transcript, empty for none, e.g. `7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    transcript_versions UInt32 COMMENT 'Number of versions of the transcript, e.g. `2`.',
    language String COMMENT 'Spoken language according to the current transcript, ISO 639-1, e.g. `en`.',
    provider String COMMENT 'Provider of the current transcript, e.g. `whisper`.',
    model String COMMENT 'Model of the current transcript, e.g. `base`.',
    words UInt32 COMMENT 'Number of words of the current transcript, e.g. `310`.',
    summary_id String COMMENT 'Current summary, empty for none, e.g. `7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    summary_versions UInt32 COMMENT 'Number of versions of the summary, e.g. `1`.',
    abstract String COMMENT 'Summary in a few sentences, e.g. `The caller moves an appointment.`.',
    topics Array(String) COMMENT 'Topics; only from a language model, e.g. `[''appointment'']`.',
    sentiment Map(String, String) COMMENT 'Sentiment by speaker: positive, neutral, negative or mixed; only from a language model, e.g. `{''inbound'': ''positive''}`.',
    outcome String COMMENT 'Result of the call; only from a language model, e.g. `resolved`.'
)
AS
SELECT
    p.tenant AS tenant,
    p.call_id AS call_id,
    p.part AS part,
    multiIf(
        f.failed_stage != '', 'failed',
        s.summary_id != '' AND p.embedded AND (p.tenant, concat('transcription_', s.transcript_id)) IN
            (SELECT tenant, key FROM ledger WHERE kind = 'transcription'),
        'complete',
        s.summary_id != '', 'summarized',
        t.transcript_id != '' OR p.embedded, 'transcribed',
        p.recording != '', 'recorded',
        ''
    ) AS status,
    f.failed_stage AS failed_stage,
    f.failed_reason AS failed_reason,
    if(f.failed_stage != '', f.failed_at, NULL) AS failed_at,
    if(p.recording != '', fromUnixTimestamp64Milli(JSONExtractInt(p.recording, 'started_at_ms'), 'UTC'), NULL) AS started_at,
    if(p.recording != '', fromUnixTimestamp64Milli(JSONExtractInt(p.recording, 'ended_at_ms'), 'UTC'), NULL) AS ended_at,
    JSONExtractUInt(p.recording, 'duration_ms') AS duration_ms,
    arraySum(x -> JSONExtractUInt(x, 'missing_ms'), JSONExtractArrayRaw(p.recording, 'tracks')) AS missing_ms,
    JSONExtractString(p.recording, 'close_reason') AS close_reason,
    t.transcript_id AS transcript_id,
    t.versions AS transcript_versions,
    t.language AS language,
    t.provider AS provider,
    t.model AS model,
    t.words AS words,
    s.summary_id AS summary_id,
    s.versions AS summary_versions,
    s.abstract AS abstract,
    s.topics AS topics,
    s.sentiment AS sentiment,
    s.outcome AS outcome
FROM
(
    SELECT
        tenant,
        call_id,
        part,
        argMaxIf(event, (occurred_at, event_id), type = 'recording.ready') AS recording,
        max(type = 'embedding.ready') AS embedded
    FROM call_events
    WHERE type IN ('recording.ready', 'transcript.ready', 'summary.ready', 'embedding.ready', 'stage.failed')
    GROUP BY tenant, call_id, part
) AS p
LEFT JOIN current_transcripts AS t ON t.tenant = p.tenant AND t.call_id = p.call_id AND t.part = p.part
LEFT JOIN current_summaries AS s ON s.tenant = p.tenant AND s.call_id = p.call_id AND s.part = p.part
LEFT JOIN
(
    SELECT
        tenant,
        call_id,
        part,
        argMax(current_failures.failed_stage, current_failures.failed_at) AS failed_stage,
        argMax(current_failures.failed_reason, current_failures.failed_at) AS failed_reason,
        max(current_failures.failed_at) AS failed_at
    FROM current_failures
    GROUP BY tenant, call_id, part
) AS f ON f.tenant = p.tenant AND f.call_id = p.call_id AND f.part = p.part
WHERE status != ''
COMMENT 'One row per recording, with its current results. A call has several recordings if its carrier reconnected after the first one was closed.';

-- A call is live while a stream is in no recording yet. Some events do not prove that a call existed: the same decisions
-- as in sinks.clickhouse.call_projection.
CREATE OR REPLACE VIEW calls
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    status String COMMENT 'The same as in the API: `live`, `recorded`, `transcribed`, `summarized`, `complete` or `failed`; the status of the least advanced part, e.g. `complete`.',
    failed_stage String COMMENT 'Stage of the latest failure that still stands, empty for none, e.g. `transcribe`.',
    failed_reason String COMMENT 'Reason of that failure, empty for none, e.g. `401 Incorrect API key`.',
    started_at DateTime64(3, 'UTC') COMMENT 'Start of the call, e.g. `2026-11-24 16:00:00.000`.',
    ended_at Nullable(DateTime64(3, 'UTC')) COMMENT 'End of the last stream, NULL while a stream is open, e.g. `2026-11-24 16:01:00.000`.',
    end_reason String COMMENT 'Reason for the end of the last stream, empty before the end, e.g. `carrier-stop`.',
    carrier String COMMENT 'Carrier, e.g. `twilio`.',
    from_number String COMMENT 'Number of the caller, empty if the carrier does not name it, e.g. `+4930111`.',
    to_number String COMMENT 'Number called, empty if the carrier does not name it, e.g. `+4930222`.',
    parts UInt32 COMMENT 'Number of parts with a result or a failure, e.g. `1`.',
    duration_ms UInt64 COMMENT 'Audio of all parts in ms, e.g. `60000`.',
    missing_ms UInt64 COMMENT 'Missing audio in ms, summed over all parts and tracks, e.g. `400`.',
    close_reason String COMMENT 'Reason for the end of the last recording, empty without a recording, e.g. `ended`.',
    language String COMMENT 'Spoken language of the first part with a transcript, ISO 639-1, e.g. `en`.',
    provider String COMMENT 'Provider of the current transcript of that part, e.g. `whisper`.',
    model String COMMENT 'Model of the current transcript of that part, e.g. `base`.',
    words UInt32 COMMENT 'Words of the current transcripts of all parts, e.g. `310`.',
    transcript_versions UInt32 COMMENT 'Highest number of versions of a part''s transcript, e.g. `2`.',
    summary_versions UInt32 COMMENT 'Highest number of versions of a part''s summary, e.g. `1`.',
    abstract String COMMENT 'Summary of the first part that has one, e.g. `The caller moves an appointment.`.',
    topics Array(String) COMMENT 'Topics of all parts; only from a language model, e.g. `[''appointment'']`.',
    sentiment Map(String, String) COMMENT 'Sentiment by speaker in the last part that has it; only from a language model, e.g. `{''inbound'': ''positive''}`.',
    outcome String COMMENT 'Result of the last part that has one; only from a language model, e.g. `resolved`.',
    failures UInt32 COMMENT 'Number of dead letters, including those that are healed, e.g. `0`.'
)
AS
WITH
    e.streams > 0 AND (e.recordings = 0 OR e.last_stream_at > e.recorded_to) AS live,
    greatest(e.last_end_at, e.recorded_to) AS over_at
SELECT
    e.tenant AS tenant,
    e.call_id AS call_id,
    multiIf(p.failed_stage != '', 'failed', live OR p.parts = 0, 'live', p.least_advanced) AS status,
    p.failed_stage AS failed_stage,
    p.failed_reason AS failed_reason,
    e.began_at AS started_at,
    if((live AND NOT hasAll(e.over, e.begun)) OR toUnixTimestamp64Milli(over_at) = 0, NULL, over_at) AS ended_at,
    if(ended_at IS NULL, '', e.last_end_reason) AS end_reason,
    e.carrier AS carrier,
    e.caller AS from_number,
    e.called AS to_number,
    p.parts AS parts,
    p.duration_ms AS duration_ms,
    p.missing_ms AS missing_ms,
    p.close_reason AS close_reason,
    p.language AS language,
    p.provider AS provider,
    p.model AS model,
    p.words AS words,
    p.transcript_versions AS transcript_versions,
    p.summary_versions AS summary_versions,
    p.abstract AS abstract,
    p.topics AS topics,
    p.sentiment AS sentiment,
    p.outcome AS outcome,
    e.failures AS failures
FROM
(
    SELECT
        tenant,
        call_id,
        min(started_at) AS began_at,
        countIf(type = 'stream.started') AS streams,
        countIf(type = 'recording.ready') AS recordings,
        countIf(type = 'stage.failed') AS failures,
        maxIf(occurred_at, type = 'stream.started') AS last_stream_at,
        maxIf(occurred_at, type = 'stream.ended') AS last_end_at,
        maxIf(fromUnixTimestamp64Milli(JSONExtractInt(event, 'ended_at_ms'), 'UTC'), type = 'recording.ready') AS recorded_to,
        groupUniqArrayIf(JSONExtractString(event, 'stream_id'), type = 'stream.started') AS begun,
        groupUniqArrayIf(JSONExtractString(event, 'stream_id'), type = 'stream.ended') AS over,
        argMaxIf(JSONExtractString(event, 'reason'), (occurred_at, event_id), type = 'stream.ended') AS last_end_reason,
        -- Streams come first; a stream's events are more exact than those of a recording or a webhook.
        argMinIf(
            JSONExtractString(event, 'carrier'),
            (type != 'stream.started', occurred_at, event_id),
            type IN ('stream.started', 'recording.ready')
        ) AS carrier,
        argMinIf(from_number, (type != 'stream.started', occurred_at, event_id), from_number != '') AS caller,
        argMinIf(to_number, (type != 'stream.started', occurred_at, event_id), to_number != '') AS called
    FROM call_events
    GROUP BY tenant, call_id
    HAVING max(type NOT IN ('stage.failed', 'letter.replayed', 'call.status', 'version.chosen'))
) AS e
LEFT JOIN
(
    SELECT
        q.tenant AS tenant,
        q.call_id AS call_id,
        count() AS parts,
        argMinIf(q.status, indexOf(['recorded', 'transcribed', 'summarized', 'complete'], q.status), q.status != 'failed')
            AS least_advanced,
        argMaxIf(q.failed_stage, (q.failed_at, -toInt64(q.part)), q.status = 'failed') AS failed_stage,
        argMaxIf(q.failed_reason, (q.failed_at, -toInt64(q.part)), q.status = 'failed') AS failed_reason,
        sum(q.duration_ms) AS duration_ms,
        sum(q.missing_ms) AS missing_ms,
        argMaxIf(q.close_reason, q.part, q.close_reason != '') AS close_reason,
        argMinIf(q.language, q.part, q.transcript_id != '') AS language,
        argMinIf(q.provider, q.part, q.transcript_id != '') AS provider,
        argMinIf(q.model, q.part, q.transcript_id != '') AS model,
        sum(q.words) AS words,
        max(q.transcript_versions) AS transcript_versions,
        max(q.summary_versions) AS summary_versions,
        argMinIf(q.abstract, q.part, q.summary_id != '') AS abstract,
        groupUniqArrayArray(q.topics) AS topics,
        argMaxIf(q.sentiment, q.part, notEmpty(q.sentiment)) AS sentiment,
        argMaxIf(q.outcome, q.part, q.outcome != '') AS outcome
    FROM parts AS q
    GROUP BY q.tenant, q.call_id
) AS p ON p.tenant = e.tenant AND p.call_id = e.call_id
COMMENT 'One row per call, with the status and the current results that the API shows.';

CREATE OR REPLACE VIEW stage_latencies
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    hung_up_ms Nullable(Int64) COMMENT 'End of the last stream, ms since the epoch, e.g. `1795536060000`.',
    recorded_ms Nullable(Int64) COMMENT 'Time of the first recording, ms since the epoch, e.g. `1795536061000`.',
    transcribed_ms Nullable(Int64) COMMENT 'Time of the first transcript, ms since the epoch, e.g. `1795536065000`.',
    summarized_ms Nullable(Int64) COMMENT 'Time of the first summary, ms since the epoch, e.g. `1795536066000`.',
    embedded_ms Nullable(Int64) COMMENT 'Time of the first vectors, ms since the epoch, e.g. `1795536066000`.',
    hung_up_at Nullable(DateTime64(3, 'UTC')) COMMENT '`hung_up_ms` as a time, e.g. `2026-11-24 16:01:00.000`.',
    hang_up_to_recorded_ms Nullable(Int64) COMMENT 'Time from hang-up to the recording in ms, e.g. `1000`.',
    recorded_to_transcribed_ms Nullable(Int64) COMMENT 'Time from the recording to the transcript in ms, e.g. `4000`.',
    transcribed_to_summarized_ms Nullable(Int64) COMMENT 'Time from the transcript to the summary in ms, e.g. `1000`.',
    transcribed_to_embedded_ms Nullable(Int64) COMMENT 'Time from the transcript to the vectors in ms, e.g. `1000`.'
)
AS
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
FROM call_events AS e
WHERE type IN ('recording.ready', 'transcript.ready', 'summary.ready', 'embedding.ready')
GROUP BY tenant, call_id, part
COMMENT 'Duration of each stage, by part: from hang-up to the recording, from there to the transcript, and from the transcript to summary and vectors. NULL for a stage without a result. The first result of each stage counts, so that replays change nothing.';

-- `audio_ms` is on one line of each recording: the first transcription of live processing; else of a replay; else the
-- line with the highest price.
CREATE OR REPLACE VIEW bill
(
    tenant LowCardinality(String) COMMENT 'Owner of the call, e.g. `acme`.',
    key String COMMENT 'Key of the charge: kind and job, e.g. `transcription_7b7f7e2a-0c55-5c51-8a4a-5a1d2f1f6f11`.',
    day Date COMMENT 'Day (UTC) on which the call started, e.g. `2026-11-24`.',
    call_id String COMMENT 'Id of the call as the carrier names it, e.g. `CAd1e0a1b7`.',
    part UInt32 COMMENT 'Number of the recording within the call, from 1, e.g. `1`.',
    kind LowCardinality(String) COMMENT 'Kind of work: `transcription`, `summary` or `embedding`, e.g. `transcription`.',
    units Int64 COMMENT 'Charged units, 50 per minute of audio, e.g. `50`.',
    duration_ms Int64 COMMENT 'Audio of the recording in ms, on each of its lines, e.g. `60000`. Do not sum it: sum `audio_ms`.',
    provider LowCardinality(String) COMMENT 'Provider that did the work, e.g. `whisper`.',
    model LowCardinality(String) COMMENT 'Model that did the work, e.g. `base`.',
    provider_cost Decimal(38, 12) COMMENT 'Amount that the provider charges us, in `currency`, e.g. `0.0005`.',
    price Decimal(38, 12) COMMENT 'Amount that the customer pays, in `currency`, e.g. `0.01`.',
    currency LowCardinality(String) COMMENT 'Currency of both amounts, ISO 4217, e.g. `USD`. Never add amounts of two currencies.',
    call_started_at DateTime64(3, 'UTC') COMMENT 'Start of the call, e.g. `2026-11-24 16:00:00.000`.',
    occurred_at DateTime64(3, 'UTC') COMMENT 'Time of the charge, e.g. `2026-11-24 16:01:05.000`.',
    prompt_tokens UInt64 COMMENT 'Tokens of the language model''s input, e.g. `1830`; 0 for other work.',
    cached_tokens UInt64 COMMENT 'Part of `prompt_tokens` from the provider''s cache, e.g. `512`.',
    answer_tokens UInt64 COMMENT 'Tokens of the output, e.g. `240`.',
    thought_tokens UInt64 COMMENT 'Tokens of reasoning before the output, charged like output, e.g. `96`.',
    replay_id LowCardinality(String) COMMENT 'Replay that caused the line, empty for live processing, e.g. `5d0b2c1e`.',
    audio_ms Int64 COMMENT 'Audio of the recording in ms on one of its lines, 0 on the others, so that every sum counts each recording once, e.g. `60000`.'
)
AS
SELECT
    tenant, key, day, call_id, part, kind, units, duration_ms,
    provider, model, provider_cost, price, currency, call_started_at,
    occurred_at, prompt_tokens, cached_tokens, answer_tokens, thought_tokens, replay_id,
    if(
        row_number() OVER (
            PARTITION BY tenant, call_id, part
            ORDER BY kind != 'transcription', replay_id != '', units DESC, price DESC, key
        ) = 1,
        duration_ms,
        0
    ) AS audio_ms
FROM ledger FINAL
COMMENT 'The ledger lines, each once. Erased calls keep their lines.';

CREATE OR REPLACE VIEW usage_daily
(
    day Date COMMENT 'Day (UTC) on which the calls started, e.g. `2026-11-24`.',
    tenant LowCardinality(String) COMMENT 'Owner of the calls, e.g. `acme`.',
    kind LowCardinality(String) COMMENT 'Kind of work: `transcription`, `summary` or `embedding`, e.g. `transcription`.',
    provider LowCardinality(String) COMMENT 'Provider that did the work, e.g. `whisper`.',
    model LowCardinality(String) COMMENT 'Model that did the work, e.g. `base`.',
    currency LowCardinality(String) COMMENT 'Currency of the amounts, ISO 4217, e.g. `USD`. Never add amounts of two currencies.',
    lines UInt64 COMMENT 'Number of ledger lines, e.g. `12`.',
    units Int64 COMMENT 'Charged units, 50 per minute of audio, e.g. `600`.',
    duration_ms Int64 COMMENT 'Audio of the recordings in ms, each counted once, e.g. `720000`.',
    provider_cost Decimal(38, 12) COMMENT 'Amount that the provider charges us, e.g. `0.006`.',
    price Decimal(38, 12) COMMENT 'Amount that the customers pay, e.g. `0.12`.',
    margin Decimal(38, 12) COMMENT '`price` minus `provider_cost`, e.g. `0.114`.'
)
AS
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
GROUP BY day, tenant, kind, provider, model, currency
COMMENT 'Sums of the ledger by day.';
