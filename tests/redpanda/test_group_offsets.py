"""Where groups stand, and putting them elsewhere."""

import time
import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from core.errors import UserError
from core.settings import KafkaSettings
from redpanda.client import consumer_config
from redpanda.group_offsets import RECORDER, move, positions
from schemas.topics import Topic
from tests.kafka_lane import plain_producer_config

TOPIC = Topic.PROVIDER_NOTICES.value  # nobody minds a record there that says nothing


def test_a_group_is_put_back_and_its_place_handed_on(any_log: KafkaSettings) -> None:
    """Lets a group read to the end, puts it back to a time in between and to the start, and hands its place to a new
    one: each then reads exactly what is after its place. While the group is at work it is refused, as its members
    would commit over it."""
    old, new = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("old", "new"))
    producer = Producer(plain_producer_config(any_log))
    times: list[int] = []
    for number in range(4):
        times.append(time.time_ns() // 1_000_000)
        producer.produce(TOPIC, b"%d" % number, "CA1", 0, timestamp=times[-1])
        assert producer.flush(30) == 0
        time.sleep(0.01)
    member = Consumer(consumer_config(any_log.model_copy(update={"instance_id": old}), old))
    member.subscribe([TOPIC])
    until = time.monotonic() + 60
    while member.poll(0.2) is None:
        assert time.monotonic() < until
    end = member.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=10)[1]
    member.commit(offsets=[TopicPartition(TOPIC, 0, end)], asynchronous=False)
    with pytest.raises(UserError, match="is at work"):
        move(any_log, old, since_ms=0)
    with pytest.raises(UserError, match="stands nowhere"):
        move(any_log, new, like=f"never-{new}")

    move(any_log, new, like=old)
    assert positions(any_log, new) == positions(any_log, old) == {(TOPIC, 0): end}
    move(any_log, new, since_ms=times[2])
    assert positions(any_log, new) == {(TOPIC, 0): end - 2}
    move(any_log, new, since_ms=0)
    assert positions(any_log, new)[TOPIC, 0] <= end - 4
    member.close()


def test_the_recorder_is_not_moved() -> None:
    """Its states say what it has seen: read again it would pass everything over, elsewhere it would know no call."""
    for group, like in ((RECORDER, None), ("new", RECORDER)):
        with pytest.raises(UserError, match="audiotext replay"):
            move(KafkaSettings(), group, like=like)
