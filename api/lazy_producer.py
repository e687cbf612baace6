"""Publishes events on the log from the API."""

from collections.abc import Sequence
from threading import Lock

from core.settings import KafkaSettings
from redpanda.client import EventProducer
from schemas.events import Event

_TIMEOUT_S = 10.0  # the client waits for it


class LazyProducer:
    """Producer that is created on first use, since only state changes need the log. Thread-safe."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._lock = Lock()
        self._producer: EventProducer | None = None

    def send(self, topic: str, events: Sequence[Event]) -> None:
        """Publishes the events and returns once the log has them. Raises LogUnavailableError."""
        with self._lock:
            if self._producer is None:
                self._producer = EventProducer(self._kafka)
        self._producer.send(topic, events, _TIMEOUT_S)
