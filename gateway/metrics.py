"""Everything the gateway counts, in one list. One registry per application, so that tests do not share figures."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """The gateway's metrics; `/metrics` serves them."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry

        # Media streams open at this moment.
        self.streams_live = Gauge("audiotext_gateway_streams_live", "Media streams open", registry=registry)
        # Media frames read from sockets, and the audio bytes in them.
        self.frames = Counter("audiotext_gateway_frames", "Media frames received", ["carrier"], registry=registry)
        self.bytes = Counter("audiotext_gateway_audio_bytes", "Audio bytes received", ["carrier"], registry=registry)
        # Messages passed over because they break their carrier's protocol. Steadily above zero: a dialect changed.
        self.malformed = Counter(
            "audiotext_gateway_malformed_messages", "Messages passed over", ["carrier"], registry=registry
        )
        # Sockets turned away or cut off, by reason: unauthorized, draining, unknown-carrier, bad-start,
        # unsupported-codec, oversized, no-start, idle, late-start, too-fast, call-streams, tenant-calls, handshake,
        # unproven, protocol, no-websocket.
        self.refused = Counter(
            "audiotext_gateway_refused_sockets", "Media sockets refused or cut off", ["reason"], registry=registry
        )
        # Carriers' HTTP requests turned away, by reason: unauthorized, oversized, slow, malformed, unknown-carrier.
        self.refused_webhooks = Counter(
            "audiotext_gateway_refused_webhooks", "Voice and status requests refused", ["reason"], registry=registry
        )
        # Streams ended, by schemas.media.EosReason.
        self.ended = Counter("audiotext_gateway_streams_ended", "Media streams ended", ["reason"], registry=registry)
        # Records acknowledged by the log, by topic.
        self.produced = Counter(
            "audiotext_gateway_records_acknowledged", "Records the log has", ["topic"], registry=registry
        )
        # What is held for the log, in bytes. Rising: the log is slower than the calls, or away.
        self.buffered = Gauge(
            "audiotext_gateway_buffer_bytes", "Bytes not yet acknowledged by the log", registry=registry
        )
        # Audio given up because the buffer was full. Anything above zero is lost audio: page somebody.
        self.dropped_ms = Counter("audiotext_gateway_dropped_audio_ms", "Audio given up", registry=registry)
        self.dropped_bytes = Counter("audiotext_gateway_dropped_audio_bytes", "Audio given up", registry=registry)
        self.dropped_records = Counter("audiotext_gateway_dropped_records", "Media records given up", registry=registry)
        # Times the producer had to be made anew after an error it cannot recover from.
        self.producer_restarts = Counter(
            "audiotext_gateway_producer_restarts", "Producers replaced after a fatal error", registry=registry
        )

    def render(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)
