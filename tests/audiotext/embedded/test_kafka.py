"""Apache Kafka on this machine: what it promises, and that nobody else can reach it. A cluster: tests/chaos."""

from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from redpanda.client import consumer_config, producer_config
from schemas.topics import Topic
from tests.kafka_lane import KafkaNodes

pytestmark = pytest.mark.kafka


def listening_addresses(pid: int) -> set[str]:
    """Addresses, in hexadecimal, of the TCP sockets on which a process listens."""
    inodes = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes}


def test_what_was_acknowledged_survives_a_kill(kafka_node: KafkaNodes) -> None:
    """A thousand records are acknowledged, the broker is killed with SIGKILL at once and started again: all are there,
    and so is what a consumer had committed. The embedded log loses both."""
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


def test_nobody_else_can_reach_it(kafka_node: KafkaNodes) -> None:
    """The broker has no credentials, so it may listen on the loopback interface only."""
    (pid,) = kafka_node.pids()
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same as an IPv6 address
    found = listening_addresses(pid)
    assert found
    assert found <= loopback


def test_a_typo_makes_no_topic(kafka_node: KafkaNodes) -> None:
    """A producer names a topic that is not there: it is told so, and the topic is still not there."""
    refused: list[bool] = []
    producer = Producer(producer_config(kafka_node.settings) | {"message.timeout.ms": 2000})
    producer.produce("call.medai", b"?", on_delivery=lambda error, _: refused.append(error is not None))
    producer.flush(10)
    assert refused == [True]
    assert "call.medai" not in producer.list_topics(timeout=10).topics
