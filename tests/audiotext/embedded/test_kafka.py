"""Tests of Apache Kafka on this machine: durability and access. Tests of a cluster are in tests/chaos."""

from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from redpanda.client import consumer_config, producer_config
from schemas.topics import Topic
from tests.support.kafka_backend import KafkaNodes

pytestmark = pytest.mark.kafka


def listening_addresses(pid: int) -> set[str]:
    """Addresses, in hexadecimal, of the TCP sockets on which a process listens."""
    inodes = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes}


def test_acknowledged_records_survive_a_kill(kafka_node: KafkaNodes) -> None:
    """Kills the broker right after it has acknowledged a thousand records, and starts it again.

    All records and the committed offsets must be there; the embedded log loses both.
    """
    kafka = kafka_node.settings
    producer = Producer(producer_config(kafka))
    place = TopicPartition(Topic.DEAD_LETTERS.value, 0, 700)
    for number in range(1000):
        producer.produce(place.topic, str(number), partition=0)
    assert producer.flush(20) == 0
    consumer = Consumer(consumer_config(kafka, "survivors"))
    consumer.commit(offsets=[place], asynchronous=False)
    kafka_node.kill()
    kafka_node.start()
    assert consumer.committed([place], 20)[0].offset == 700
    consumer.assign([TopicPartition(place.topic, 0, 0)])
    values: list[bytes] = []
    while len(values) < 1000 and (messages := consumer.consume(1000, 10)):
        values += [message.value() for message in messages if message.error() is None]
    consumer.close()
    assert values == [str(number).encode() for number in range(1000)]


def test_it_listens_on_the_loopback_interface_only(kafka_node: KafkaNodes) -> None:
    """Reads the broker's listening sockets: all must be on the loopback interface, because it has no credentials."""
    (pid,) = kafka_node.pids()
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same as an IPv6 address
    found = listening_addresses(pid)
    assert found
    assert found <= loopback


def test_unknown_topic_is_not_created(kafka_node: KafkaNodes) -> None:
    """Produces to an unknown topic: the producer must get an error, and the topic must not be created."""
    refused: list[bool] = []
    producer = Producer(producer_config(kafka_node.settings) | {"message.timeout.ms": 2000})
    producer.produce("call.medai", b"?", on_delivery=lambda error, _: refused.append(error is not None))
    producer.flush(10)
    assert refused == [True]
    assert "call.medai" not in producer.list_topics(timeout=10).topics
