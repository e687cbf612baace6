"""Metrics of the gateway. Each application has its own registry, so that tests do not share values."""

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from core import metrics


class Metrics:
    """The gateway's metrics, as core.metrics defines them; `/metrics` serves them."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)
        self.streams_live = metrics.STREAMS_LIVE.on(registry)
        self.frames = metrics.FRAMES.on(registry)
        self.bytes = metrics.AUDIO_BYTES.on(registry)
        self.malformed = metrics.MALFORMED.on(registry)
        self.repaired = metrics.REPAIRED.on(registry)
        self.refused = metrics.REFUSED.on(registry)
        self.refused_webhooks = metrics.REFUSED_WEBHOOKS.on(registry)
        self.flood = metrics.FLOOD.on(registry)
        self.ended = metrics.STREAMS_ENDED.on(registry)
        self.produced = metrics.ACKNOWLEDGED.on(registry)
        self.buffered = metrics.BUFFER_BYTES.on(registry)
        self.buffer_limit = metrics.BUFFER_LIMIT_BYTES.on(registry)
        self.dropped_ms = metrics.DROPPED_MS.on(registry)
        self.dropped_bytes = metrics.DROPPED_BYTES.on(registry)
        self.dropped_records = metrics.DROPPED_RECORDS.on(registry)
        self.producer_restarts = metrics.PRODUCER_RESTARTS.on(registry)

    def render(self) -> bytes:
        """Returns the values in Prometheus' text format."""
        return generate_latest(self._registry)
