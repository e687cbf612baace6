"""Putting events on the log from the API."""

from collections.abc import Sequence
from threading import Lock

from core.settings import KafkaSettings
from redpanda.client import EventProducer
from schemas.events import Event

_TIMEOUT_S = 10.0  # whoever asked waits for it


class LazyProducer:
    """A producer that is made when first used: only those who change something need the log. Thread-safe."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._lock = Lock()
        self._producer: EventProducer | None = None

    def send(self, topic: str, events: Sequence[Event]) -> None:
        """Returns once the log has the events. Raises LogUnavailableError."""
        with self._lock:
            if self._producer is None:
                self._producer = EventProducer(self._kafka)
        self._producer.send(topic, events, _TIMEOUT_S)
