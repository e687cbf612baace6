"""The partition of a call: the hash of Kafka's clients, and a number of partitions that does not change."""

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from hypothesis import given
from hypothesis import strategies as st

from core.settings import KafkaSettings
from gateway.producer.partition_resolver import PartitionResolver, murmur2, partition_of
from redpanda import topics
from redpanda.client import connection_config
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_hash_equals_kafka_clients(key: str, value: int) -> None:
    """Compares the hash with the test vectors of Kafka's own client.

    With another hash, records that our other producers write by key are on other partitions than the gateway's.
    """
    assert murmur2(key.encode()) == value & 0xFFFFFFFF


@given(st.text(min_size=1, max_size=40), st.integers(1, 200))
def test_partition_exists(call_id: str, partitions: int) -> None:
    """The partition of any call id is one of the topic's partitions."""
    assert 0 <= partition_of(call_id, partitions) < partitions


def test_partition_stays_when_partitions_are_added(start_server: StartServer) -> None:
    """Resolves a call, adds partitions with the broker's own interface, and resolves the call again.

    A failure means that a call's records move to another partition in the middle of the call, and that the recorder
    splits it.
    """
    kafka = kafka_settings(start_server("log")).model_copy(update={"partitions": 2})
    resolver = PartitionResolver(kafka)
    resolver.start()
    try:
        assert resolver.partition_for("call-1") is None, "the topics do not exist yet"
        topics.apply(kafka, embedded=True)
        wait_until(lambda: resolver.partition_for("call-1") is not None, "the number of partitions is known")
        assert resolver.partition_for("call-1") == partition_of("call-1", 2)
        _add_partitions(kafka, 7)
        calls = [f"call-{number}" for number in range(50)]
        assert [resolver.partition_for(call) for call in calls] == [partition_of(call, 2) for call in calls]
    finally:
        resolver.close()


def _add_partitions(kafka: KafkaSettings, number: int) -> None:
    admin = AdminClient(connection_config(kafka))
    for topic in (Topic.CALL_MEDIA, Topic.CALL_EVENTS):
        (future,) = admin.create_partitions([NewPartitions(str(topic), number)]).values()
        future.result(30)
