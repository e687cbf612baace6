"""Every metric there is, in one list: `docs/metrics.md` is made from it (`python -m core.metrics`).

Names do not change: dashboards and alerts are built on them. Each service makes its own of these in a registry of its
own (gateway.metrics, api.metrics, pipelines.metrics), so that tests share no figures. A label has few values:
never a call, a tenant or a path.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True)
class Metric:
    """name: without the `_total` that counters get; help: what it counts, in which unit, and what it tells when it
    moves; labels: the name of each, and what its values are."""

    name: str
    help: str
    labels: Mapping[str, str] = field(default_factory=dict)

    kind = "untyped"
    suffix = ""

    @property
    def exposed(self) -> str:
        """What it is called where it is queried."""
        return self.name + self.suffix


class CounterMetric(Metric):
    """Only ever rises while the process lives."""

    kind = "counter"
    suffix = "_total"

    def on(self, registry: CollectorRegistry) -> Counter:
        """A counter of it in this registry."""
        return Counter(self.name, self.help, tuple(self.labels), registry=registry)


class GaugeMetric(Metric):
    """Rises and falls."""

    kind = "gauge"

    def on(self, registry: CollectorRegistry) -> Gauge:
        """A gauge of it in this registry."""
        return Gauge(self.name, self.help, tuple(self.labels), registry=registry)


@dataclass(frozen=True)
class HistogramMetric(Metric):
    """buckets: upper bounds; above the last there is +Inf."""

    buckets: tuple[float, ...] = ()

    kind = "histogram"

    def on(self, registry: CollectorRegistry) -> Histogram:
        """A histogram of it in this registry."""
        return Histogram(self.name, self.help, tuple(self.labels), registry=registry, buckets=self.buckets)


# What many have in common

_CARRIER = {"carrier": "twilio, telnyx, …: see docs/carriers"}
_STAGE = {"stage": "the consumer group"}
_ROUTE = {"method": "GET, …, or other", "route": "the path's template, or unmatched"}
_CLASS = {"error_class": "retry (time-outs, 5xx), quota, permanent"}

# The gateway, on its own port

STREAMS_LIVE = GaugeMetric("audiotext_gateway_streams_live", "Media streams open at this moment.")
FRAMES = CounterMetric("audiotext_gateway_frames", "Media frames read from sockets.", _CARRIER)
AUDIO_BYTES = CounterMetric("audiotext_gateway_audio_bytes", "Audio bytes in those frames.", _CARRIER)
MALFORMED = CounterMetric(
    "audiotext_gateway_malformed_messages",
    "Messages passed over because they break their carrier's protocol. Steadily above zero: a dialect changed.",
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
    "Media sockets turned away or cut off. Many unauthorized: a wrong token, or somebody who tries.",
    {
        "reason": "unauthorized, draining, unknown-carrier, bad-start, unsupported-codec, oversized, protocol, "
        "no-start, idle, peer-gone, late-start, too-fast, call-streams, tenant-calls, handshake, unproven, no-websocket"
    },
)
FLOOD = CounterMetric(
    "audiotext_gateway_flood",
    "Connections and requests not listened to: their address, or all such together, ask a lot and prove nothing, or "
    "sockets of their address were cut off three times in a row.",
)
REFUSED_WEBHOOKS = CounterMetric(
    "audiotext_gateway_refused_webhooks",
    "Carriers' voice and status requests turned away.",
    {"reason": "unauthorized, oversized, slow, malformed, unknown-carrier"},
)
STREAMS_ENDED = CounterMetric(
    "audiotext_gateway_streams_ended",
    "Media streams ended.",
    {"reason": "carrier-stop, socket-closed, gateway-draining, protocol-error, call-ended, idle, peer-gone"},
)
ACKNOWLEDGED = CounterMetric(
    "audiotext_gateway_records_acknowledged", "Records that the log has.", {"topic": "call.media or call.events"}
)
BUFFER_BYTES = GaugeMetric(
    "audiotext_gateway_buffer_bytes",
    "Bytes held that the log has not acknowledged. Rising: the log is slower than the calls, or away.",
)
BUFFER_LIMIT_BYTES = GaugeMetric(
    "audiotext_gateway_buffer_limit_bytes", "How much may be held before audio is given up: the buffer's size."
)
DROPPED_MS = CounterMetric(
    "audiotext_gateway_dropped_audio_ms",
    "Milliseconds of audio given up because the buffer was full. Anything above zero is lost audio: page somebody.",
)
DROPPED_BYTES = CounterMetric("audiotext_gateway_dropped_audio_bytes", "The same audio in bytes.")
DROPPED_RECORDS = CounterMetric("audiotext_gateway_dropped_records", "The same audio in media records.")
PRODUCER_RESTARTS = CounterMetric(
    "audiotext_gateway_producer_restarts", "Producers replaced after an error they cannot recover from."
)

# The API, on its own port

API_REQUESTS = CounterMetric("audiotext_api_requests", "Requests answered.", _ROUTE | {"status": "HTTP status"})
API_SECONDS = HistogramMetric(
    "audiotext_api_request_seconds",
    "From a request to the end of its answer, in seconds.",
    _ROUTE,
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

# Everybody who reads the log: recorder, slow stages, usage, analytics. On AUDIOTEXT_METRICS__PORT, as all that follow

CONSUMED = CounterMetric(
    "audiotext_consumer_records",
    "Records read from the log, those of redeliveries and retries too.",
    _STAGE | {"topic": "the topic"},
)
LAG = GaugeMetric(
    "audiotext_consumer_lag_records",
    "Records on the log that are not done yet, of the partitions this process has: sum them over a stage's processes. "
    "Asked every 5 s; keeps its last value while the log is away.",
    _STAGE | {"topic": "the topic", "partition": "its number"},
)
POLL_AGE = GaugeMetric(
    "audiotext_consumer_poll_age_seconds",
    "Seconds since the loop that reads the log last came round. A minute and more: it hangs, and is soon restarted.",
    _STAGE,
)
LATENCY = HistogramMetric(
    "audiotext_stage_latency_seconds",
    "From the event a stage begins with until its result is on the log or in ClickHouse, waiting and retries included, "
    "in seconds. Of the recorder: from a call's close to its recording.ready.",
    _STAGE,
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600),
)
DEAD_LETTERS = CounterMetric(
    "audiotext_dead_letters",
    "Jobs and records a stage gave up on: `audiotext dlq list`. Anything above zero wants somebody to look.",
    _STAGE | _CLASS,
)

# The slow stages: transcribe, summarize, embed

ATTEMPTS = CounterMetric(
    "audiotext_stage_attempts",
    "Attempts at a job, by what came of them.",
    _STAGE
    | {
        "result": "done, failed, or what costs the job none of its attempts: not-yet (the provider still works), "
        "outage (it is away)"
    },
)
ATTEMPT_SECONDS = HistogramMetric(
    "audiotext_stage_attempt_seconds",
    "How long one attempt took, whatever came of it, in seconds.",
    _STAGE,
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900),
)
RETRIES = CounterMetric(
    "audiotext_stage_retries", "Failed attempts that were put on the retry schedule.", _STAGE | _CLASS
)
RUNNING = GaugeMetric("audiotext_stage_attempts_running", "Attempts under way at this moment.", _STAGE)
HELD = GaugeMetric(
    "audiotext_stage_jobs_held",
    "Jobs read and not done: under way, waiting for their turn, or for the time of their next attempt.",
    _STAGE,
)
PROVIDER_AWAY = GaugeMetric(
    "audiotext_stage_provider_away", "1 while a stage waits because its provider is away, else 0.", _STAGE
)

# The recorder

OPEN_CALLS = GaugeMetric("audiotext_recorder_open_calls", "Calls (parts) that are being recorded.")
CLOSED_CALLS = CounterMetric(
    "audiotext_recorder_closed_calls",
    "Calls (parts) closed, redeliveries included. Many idle: gateways die, or a carrier ends no streams.",
    {"reason": "ended, or idle (closed by the clock)"},
)
UNFINISHED = GaugeMetric(
    "audiotext_recorder_unfinished_recordings",
    "Closed calls whose recording is not uploaded yet. Rising: object storage is away or slow.",
)
FINISH_FAILURES = CounterMetric(
    "audiotext_recorder_finish_failures", "Attempts to make and upload a recording that failed and are made again."
)
RECORDED = CounterMetric("audiotext_recorder_recordings", "Recordings made, redone ones included.")
RECORDED_MS = CounterMetric("audiotext_recorder_recorded_audio_ms", "Milliseconds of audio received in their tracks.")
GAP_MS = CounterMetric(
    "audiotext_recorder_gap_audio_ms",
    "Milliseconds of their tracks that are silence because audio is missing, by what is known of the reason.",
    {
        "reason": "gateway-buffer-full (lost), missing (never came), not-sent (a pause of a carrier without "
        "timestamps), no-audio (a track's edges, or all of it)"
    },
)
SPOOL_FREE = GaugeMetric("audiotext_recorder_disk_free_bytes", "Free on the disk of the recorder's spool.")
REBUILDING = GaugeMetric(
    "audiotext_recorder_partitions_rebuilding",
    "Partitions not read yet because calls are being completed from the log.",
)

# Into ClickHouse: usage, analytics

SINK_RECORDS = CounterMetric(
    "audiotext_sink_records",
    "Records by what became of them.",
    _STAGE | {"result": "inserted, or malformed (a dead letter)"},
)
SINK_AWAY = CounterMetric(
    "audiotext_sink_backpressure", "Checkpoints put off because ClickHouse, S3 or the log was away.", _STAGE
)

SECTIONS: Mapping[str, tuple[Metric, ...]] = {
    "Gateway": (
        STREAMS_LIVE, FRAMES, AUDIO_BYTES, MALFORMED, REPAIRED, REFUSED, REFUSED_WEBHOOKS, FLOOD, STREAMS_ENDED,
        ACKNOWLEDGED, BUFFER_BYTES, BUFFER_LIMIT_BYTES, DROPPED_MS, DROPPED_BYTES, DROPPED_RECORDS, PRODUCER_RESTARTS,
    ),
    "API": (API_REQUESTS, API_SECONDS),
    "All that read the log: recorder, transcriber, summarizer, embedder, usage, analytics, replayer": (
        CONSUMED, LAG, POLL_AGE, LATENCY, DEAD_LETTERS,
    ),
    "Transcriber, summarizer, embedder, replayer": (ATTEMPTS, ATTEMPT_SECONDS, RETRIES, RUNNING, HELD, PROVIDER_AWAY),
    "Recorder": (
        OPEN_CALLS, CLOSED_CALLS, UNFINISHED, FINISH_FAILURES, RECORDED, RECORDED_MS, GAP_MS, SPOOL_FREE, REBUILDING,
    ),
    "Usage, analytics": (SINK_RECORDS, SINK_AWAY),
}  # fmt: skip

_INTRODUCTION = """# Metrics

Prometheus' text format at `/metrics`: the gateway's and the API's on their own ports, every other service's on
`AUDIOTEXT_METRICS__PORT` (`AUDIOTEXT_METRICS__HOST` is where it listens, 127.0.0.1 by default). Without a port there is
none. Under `audiotext up` the services take consecutive ports from there, or without one any: recorder, transcriber,
summarizer, embedder, usage, analytics, replayer. The web page shows what they say (`/v1/operations`); elsewhere
`AUDIOTEXT_API__WATCHED` tells the API where they are.
`/healthz` on the same port is 200 while the service works and 503 when it hangs.

`stage` is the consumer group, and what the dead letters call it: recorder, transcribe, summarize, embed, usage,
analytics, replay. Beside these there is each process' own: `process_resident_memory_bytes`,
`process_cpu_seconds_total`, `process_open_fds` and the like. Counters of work count what was done again after a crash,
too: they tell how a service fares, the truth about calls and money is in ClickHouse.

This page is made from `core/metrics.py` by `python -m core.metrics > docs/metrics.md`.
"""


def page() -> Iterator[str]:
    """`docs/metrics.md`, line by line."""
    yield from _INTRODUCTION.splitlines()
    for title, metrics in SECTIONS.items():
        yield from ("", f"## {title}", "", "| metric | type | labels | what it tells |", "|---|---|---|---|")
        for metric in metrics:
            labels = "; ".join(f"`{name}`: {meaning}" for name, meaning in metric.labels.items())
            yield f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.help} |"


def every() -> Iterator[Metric]:
    """All of them."""
    return chain.from_iterable(SECTIONS.values())


if __name__ == "__main__":
    print("\n".join(page()))
