"""Tests of reading and moving a consumer group's offsets."""

import time
import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from core.errors import UserError
from core.settings import KafkaSettings
from redpanda.client import consumer_config
from redpanda.group_offsets import RECORDER, GroupHasMembersError, committed_offsets, move, positions
from schemas.topics import Topic
from tests.support.kafka_backend import plain_producer_config

TOPIC = Topic.PROVIDER_NOTICES.value  # consumers of this topic ignore records without content


def test_offsets_move_to_a_time_the_start_and_another_group(any_log: KafkaSettings) -> None:
    """Lets a group read to the end, then moves a second group to its offsets, to a time and to the start.

    Each move must set exactly the expected offsets, and the lag must be the number of unread records. A move of a group
    with members must fail, because the members would overwrite the offsets.
    """
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
    with pytest.raises(GroupHasMembersError, match=r"still has 1 member$"):
        move(any_log, old, since_ms=0)
    with pytest.raises(UserError, match="has no committed offsets"):
        move(any_log, new, like=f"never-{new}")

    move(any_log, new, like=old)
    assert committed_offsets(any_log, new) == committed_offsets(any_log, old) == {(TOPIC, 0): end}
    move(any_log, new, since_ms=times[2])
    assert committed_offsets(any_log, new) == {(TOPIC, 0): end - 2}
    first, *others = positions(any_log, new)
    assert (first.topic, first.partition, first.position, first.end, first.lag) == (TOPIC, 0, end - 2, end, 2)
    assert others
    # Nothing is committed there: everything on these partitions is unread.
    assert all(one.position is None and one.lag <= one.end for one in others)
    assert positions(any_log, f"never-{new}") == []
    move(any_log, new, since_ms=0)
    assert committed_offsets(any_log, new)[TOPIC, 0] <= end - 4
    member.close()


def test_the_recorder_cannot_be_moved() -> None:
    """Moves the recorder, and a group to the recorder's offsets: both must fail.

    The recorder's state belongs to its offsets. With earlier offsets it would skip every record; with later ones it
    would miss the beginnings of calls.
    """
    for group, like in ((RECORDER, None), ("new", RECORDER)):
        with pytest.raises(UserError, match="audiotext replay"):
            move(KafkaSettings(), group, like=like)
