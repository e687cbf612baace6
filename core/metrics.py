"""List of all metrics. `python -m core.metrics` prints `docs/metrics.md` from it.

Names do not change, because dashboards and alerts use them. Each service creates its metrics in its own registry (see
gateway.metrics, api.metrics, pipelines.runtime.metrics, pipelines.recorder.metrics), so that tests do not share values.
A label has few values: never a call, a tenant or a path.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True)
class Metric:
    """Definition of one metric.

    name: without the `_total` suffix of counters. help: the measured value, its unit, and the meaning of a change.
    labels: label name → its values.
    """

    name: str
    help: str
    labels: Mapping[str, str] = field(default_factory=dict)

    kind = "untyped"
    suffix = ""

    @property
    def exposed_name(self) -> str:
        """Returns the metric's name in queries."""
        return self.name + self.suffix


class CounterMetric(Metric):
    """Metric that only rises while the process runs."""

    kind = "counter"
    suffix = "_total"

    def on(self, registry: CollectorRegistry) -> Counter:
        """Creates the counter in this registry."""
        return Counter(self.name, self.help, tuple(self.labels), registry=registry)


class GaugeMetric(Metric):
    """Metric that rises and falls."""

    kind = "gauge"

    def on(self, registry: CollectorRegistry) -> Gauge:
        """Creates the gauge in this registry."""
        return Gauge(self.name, self.help, tuple(self.labels), registry=registry)


@dataclass(frozen=True)
class HistogramMetric(Metric):
    """Distribution of values. buckets: upper bounds; +Inf follows the last one."""

    buckets: tuple[float, ...] = ()

    kind = "histogram"

    def on(self, registry: CollectorRegistry) -> Histogram:
        """Creates the histogram in this registry."""
        return Histogram(self.name, self.help, tuple(self.labels), registry=registry, buckets=self.buckets)


# Labels that several metrics share

_CARRIER = {"carrier": "twilio, telnyx, …: see docs/carriers"}
_STAGE = {"stage": "consumer group"}
_ROUTE = {"method": "GET, …, or other", "route": "path template, or unmatched"}
_OMISSION = {"reason": "repetition (the engine repeated itself), echo (of the other channel)"}
_CLASS = {"error_class": "retry (timeouts, 5xx), quota, permanent"}

# The gateway, on its own port

STREAMS_LIVE = GaugeMetric("audiotext_gateway_streams_live", "Open media streams.")
FRAMES = CounterMetric("audiotext_gateway_frames", "Media frames read from sockets.", _CARRIER)
AUDIO_BYTES = CounterMetric("audiotext_gateway_audio_bytes", "Audio bytes in those frames.", _CARRIER)
MALFORMED = CounterMetric(
    "audiotext_gateway_malformed_messages",
    "Messages ignored because they violate the carrier's protocol. Steadily above zero: the carrier changed its "
    "protocol.",
    _CARRIER,
)
REPAIRED = CounterMetric(
    "audiotext_gateway_repaired_messages",
    "Messages whose text was damaged and was repaired: nothing is lost but characters. Steadily above zero: find out "
    "what puts damaged text into the stream's parameters.",
    _CARRIER | {"kind": "invalid-utf-8, lone-surrogate, text-around-json, unescaped-text"},
)
REFUSED = CounterMetric(
    "audiotext_gateway_refused_sockets",
    "Media sockets rejected or closed by the gateway. Many unauthorized: a wrong token, or an attack.",
    {
        "reason": "unauthorized, draining, unknown-carrier, bad-start, unsupported-codec, oversized, protocol, "
        "no-start, idle, peer-gone, late-start, too-fast, call-streams, tenant-calls, handshake, unproven, no-websocket"
    },
)
FLOOD = CounterMetric(
    "audiotext_gateway_flood",
    "Connections and requests rejected by a rate limit: the address, or all unauthenticated addresses together, sent "
    "too many requests; or three sockets of the address in a row were closed for flooding.",
)
REFUSED_WEBHOOKS = CounterMetric(
    "audiotext_gateway_refused_webhooks",
    "Rejected voice and status requests of carriers.",
    {"reason": "unauthorized, oversized, slow, malformed, unknown-carrier"},
)
STREAMS_ENDED = CounterMetric(
    "audiotext_gateway_streams_ended",
    "Ended media streams.",
    {"reason": "carrier-stop, socket-closed, gateway-draining, protocol-error, call-ended, idle, peer-gone"},
)
ACKNOWLEDGED = CounterMetric(
    "audiotext_gateway_records_acknowledged",
    "Records that the log has acknowledged.",
    {"topic": "call.media or call.events"},
)
BUFFER_BYTES = GaugeMetric(
    "audiotext_gateway_buffer_bytes",
    "Bytes in memory that the log has not acknowledged. Rising: the log is too slow or unavailable.",
)
BUFFER_LIMIT_BYTES = GaugeMetric(
    "audiotext_gateway_buffer_limit_bytes", "Size of the buffer. The gateway discards audio above this limit."
)
DROPPED_MS = CounterMetric(
    "audiotext_gateway_dropped_audio_ms",
    "Milliseconds of audio discarded because the buffer was full. Above zero: audio is lost, and an operator must act.",
)
DROPPED_BYTES = CounterMetric("audiotext_gateway_dropped_audio_bytes", "The same discarded audio in bytes.")
DROPPED_RECORDS = CounterMetric("audiotext_gateway_dropped_records", "The same discarded audio in media records.")
PRODUCER_RESTARTS = CounterMetric(
    "audiotext_gateway_producer_restarts", "Kafka producers replaced after a fatal error. No record is lost."
)

# The API, on its own port

API_REQUESTS = CounterMetric("audiotext_api_requests", "Answered requests.", _ROUTE | {"status": "HTTP status"})
API_SECONDS = HistogramMetric(
    "audiotext_api_request_seconds",
    "Seconds from a request to the end of its response.",
    _ROUTE,
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

# Consumers of the log: recorder, job stages, usage, analytics. On AUDIOTEXT_METRICS__PORT, as all that follow

CONSUMED = CounterMetric(
    "audiotext_consumer_records",
    "Records read from the log, redeliveries and retries included.",
    _STAGE | {"topic": "topic name"},
)
LAG = GaugeMetric(
    "audiotext_consumer_lag_records",
    "Records of this process's partitions that are not finished yet. Sum over the processes of a stage. Updated every "
    "5 s; keeps its last value while the log is unavailable.",
    _STAGE | {"topic": "topic name", "partition": "partition number"},
)
POLL_AGE = GaugeMetric(
    "audiotext_consumer_poll_age_seconds",
    "Seconds since the last iteration of the loop that reads the log. Above a minute: it hangs and is restarted soon.",
    _STAGE,
)
LATENCY = HistogramMetric(
    "audiotext_stage_latency_seconds",
    "Seconds from a stage's input event until its result is on the log or in ClickHouse, waiting and retries included. "
    "Recorder: from the close of a call to its recording.ready.",
    _STAGE,
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600),
)
DEAD_LETTERS = CounterMetric(
    "audiotext_dead_letters",
    "Jobs and records that a stage could not process: see `audiotext dlq list`. Above zero: check them.",
    _STAGE | _CLASS,
)

# The job stages: transcribe, summarize, embed

ATTEMPTS = CounterMetric(
    "audiotext_stage_attempts",
    "Attempts at a job, by result.",
    _STAGE
    | {
        "result": "done, failed; not-yet (the provider still works) and outage (the provider is unavailable) do not "
        "count against the job's attempts"
    },
)
ATTEMPT_SECONDS = HistogramMetric(
    "audiotext_stage_attempt_seconds",
    "Seconds that one attempt took, whatever its result.",
    _STAGE,
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900),
)
RETRIES = CounterMetric("audiotext_stage_retries", "Failed attempts that were scheduled for a retry.", _STAGE | _CLASS)
RUNNING = GaugeMetric("audiotext_stage_attempts_running", "Running attempts.", _STAGE)
JOBS_HELD = GaugeMetric(
    "audiotext_stage_jobs_held",
    "Unfinished jobs in this process: running, queued, or waiting for the next attempt.",
    _STAGE,
)
PROVIDER_UNAVAILABLE = GaugeMetric(
    "audiotext_stage_provider_away", "1 while a stage waits because its provider is unavailable, else 0.", _STAGE
)

OMITTED = CounterMetric(
    "audiotext_transcribe_omitted_stretches",
    "Stretches of new transcripts whose text is omitted, by reason: see `omitted` in a transcript.",
    _STAGE | _OMISSION,
)
OMITTED_MS = CounterMetric(
    "audiotext_transcribe_omitted_audio_ms",
    "Milliseconds of audio in those stretches. Repetitions rising: the engine repeats itself, and words are missing.",
    _STAGE | _OMISSION,
)

# The recorder

OPEN_CALLS = GaugeMetric("audiotext_recorder_open_calls", "Calls (parts) being recorded.")
CLOSED_CALLS = CounterMetric(
    "audiotext_recorder_closed_calls",
    "Closed calls (parts), redeliveries included. Many idle: gateways crash, or a carrier does not end its streams.",
    {"reason": "ended, or idle (closed by the idle timeout)"},
)
UNFINISHED = GaugeMetric(
    "audiotext_recorder_unfinished_recordings",
    "Closed calls whose recording is not uploaded yet. Rising: object storage is unavailable or slow.",
)
FINISH_FAILURES = CounterMetric(
    "audiotext_recorder_finish_failures", "Failed attempts to write and upload a recording. Each is tried again."
)
RECORDED = CounterMetric("audiotext_recorder_recordings", "Finished recordings, repeated ones included.")
RECORDED_MS = CounterMetric(
    "audiotext_recorder_recorded_audio_ms", "Milliseconds of received audio in the tracks of finished recordings."
)
GAP_MS = CounterMetric(
    "audiotext_recorder_gap_audio_ms",
    "Milliseconds of silence in the tracks because audio is missing, by reason.",
    {
        "reason": "gateway-buffer-full (lost), missing (never received), not-sent (a pause of a carrier without "
        "timestamps), no-audio (before the first or after the last audio of a track, or an empty track)"
    },
)
SPOOL_FREE = GaugeMetric("audiotext_recorder_disk_free_bytes", "Free bytes on the disk of the recorder's spool.")
REBUILDING = GaugeMetric(
    "audiotext_recorder_partitions_rebuilding",
    "Partitions that are paused while the recorder rebuilds calls from the log.",
)

# Writers into ClickHouse: usage, analytics

SINK_RECORDS = CounterMetric(
    "audiotext_sink_records",
    "Processed records, by result.",
    _STAGE | {"result": "inserted, or malformed (a dead letter)"},
)
SINK_BACKPRESSURE = CounterMetric(
    "audiotext_sink_backpressure", "Checkpoints postponed because ClickHouse, S3 or the log was unavailable.", _STAGE
)

SECTIONS: Mapping[str, tuple[Metric, ...]] = {
    "Gateway": (
        STREAMS_LIVE, FRAMES, AUDIO_BYTES, MALFORMED, REPAIRED, REFUSED, REFUSED_WEBHOOKS, FLOOD, STREAMS_ENDED,
        ACKNOWLEDGED, BUFFER_BYTES, BUFFER_LIMIT_BYTES, DROPPED_MS, DROPPED_BYTES, DROPPED_RECORDS, PRODUCER_RESTARTS,
    ),
    "API": (API_REQUESTS, API_SECONDS),
    "All consumers of the log: recorder, transcriber, summarizer, embedder, usage, analytics, replayer": (
        CONSUMED, LAG, POLL_AGE, LATENCY, DEAD_LETTERS,
    ),
    "Transcriber, summarizer, embedder, replayer": (
        ATTEMPTS, ATTEMPT_SECONDS, RETRIES, RUNNING, JOBS_HELD, PROVIDER_UNAVAILABLE,
    ),
    "Transcriber, replayer": (OMITTED, OMITTED_MS),
    "Recorder": (
        OPEN_CALLS, CLOSED_CALLS, UNFINISHED, FINISH_FAILURES, RECORDED, RECORDED_MS, GAP_MS, SPOOL_FREE, REBUILDING,
    ),
    "Usage, analytics": (SINK_RECORDS, SINK_BACKPRESSURE),
}  # fmt: skip

_INTRODUCTION = """# Metrics

Every service serves `/metrics` in Prometheus' text format: the gateway and the API on their own ports, every other
service on `AUDIOTEXT_METRICS__PORT`, at the address `AUDIOTEXT_METRICS__HOST` (127.0.0.1 by default). Without a port,
these services serve no metrics. `audiotext up` gives consecutive ports, beginning with that one, to: recorder,
transcriber, summarizer, embedder, usage, analytics, replayer. If no port is set, it chooses free ports. The web page
shows the main figures (`/v1/operations`). Without `audiotext up`, set `AUDIOTEXT_API__WATCHED` to the addresses of the
services. `/healthz` on the same port returns 200 while the service works and 503 when it hangs.

The label `stage` is the consumer group, as in dead letters: recorder, transcribe, summarize, embed, usage, analytics,
replay, replay-plan, erase. Each process also exports its own `process_resident_memory_bytes`,
`process_cpu_seconds_total`, `process_open_fds` and the like. Work that is repeated after a crash is counted again. So
use these figures to watch the services; the exact numbers of calls and money are in ClickHouse.

`python -m core.metrics > docs/metrics.md` writes this page from `core/metrics.py`.
"""


def page() -> Iterator[str]:
    """Yields the lines of `docs/metrics.md`."""
    yield from _INTRODUCTION.splitlines()
    for title, metrics in SECTIONS.items():
        yield from ("", f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|")
        for metric in metrics:
            labels = "; ".join(f"`{name}`: {meaning}" for name, meaning in metric.labels.items())
            yield f"| `{metric.exposed_name}` | {metric.kind} | {labels} | {metric.help} |"


def all_metrics() -> Iterator[Metric]:
    """Returns all metrics, section by section."""
    return chain.from_iterable(SECTIONS.values())


if __name__ == "__main__":
    print("\n".join(page()))
