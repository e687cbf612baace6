"""Events on their way to a real log."""

import pytest

from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import EventProducer, EventTooLargeError
from schemas.events import StreamEnded
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings


@pytest.fixture
def kafka(start_server: StartServer) -> KafkaSettings:
    """An empty log with our topics."""
    settings = kafka_settings(start_server("log"))
    topics.apply(settings, embedded=True)
    return settings


def test_an_event_that_is_too_large_is_not_a_log_that_is_away(kafka: KafkaSettings) -> None:
    """Sends an event of a megabyte and a half, and then a small one. The first is refused for good, by name and size;
    taken for a log that is away it would be sent for ever. The second arrives: the producer is none the worse."""
    small = StreamEnded(event_id="e", call_id="CA1", tenant="t", occurred_at_ms=1, stream_id="S", reason="stop")
    large = small.model_copy(update={"reason": "x" * 1_500_000})
    producer = EventProducer(kafka)
    with pytest.raises(EventTooLargeError, match=r"1,500,\d\d\d bytes about call CA1 .* call.events"):
        producer.send(Topic.CALL_EVENTS, [large])
    producer.send(Topic.CALL_EVENTS, [small])
