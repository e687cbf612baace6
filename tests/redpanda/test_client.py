"""Tests of the event producer with a real log."""

import pytest

from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import EventProducer, EventTooLargeError
from schemas.events import StreamEnded
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings


@pytest.fixture
def kafka(start_server: StartServer) -> KafkaSettings:
    """Starts an empty log with our topics."""
    settings = kafka_settings(start_server("log"))
    topics.apply(settings, embedded=True)
    return settings


def test_too_large_event_gives_its_own_error(kafka: KafkaSettings) -> None:
    """Sends an event of 1.5 MB, then a small one.

    The first must raise EventTooLargeError with size and call; as LogUnavailableError it would be retried forever. The
    second must arrive, because the producer still works.
    """
    small = StreamEnded(event_id="e", call_id="CA1", tenant="t", occurred_at_ms=1, stream_id="S", reason="stop")
    large = small.model_copy(update={"reason": "x" * 1_500_000})
    producer = EventProducer(kafka)
    with pytest.raises(EventTooLargeError, match=r"1,500,\d\d\d bytes about call CA1 .* call.events"):
        producer.send(Topic.CALL_EVENTS, [large])
    producer.send(Topic.CALL_EVENTS, [small])
