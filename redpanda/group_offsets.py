"""Reads and moves the committed offsets of a consumer group."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from core.counting import number_of
from core.errors import UserError
from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config
from schemas.topics import Topic

RECORDER = "recorder"

PartitionId = tuple[str, int]  # topic, partition number

_TIMEOUT_S = 10.0
_IDLE = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD, ConsumerGroupState.UNKNOWN)


class GroupHasMembersError(UserError):
    """The group's service runs, so the group cannot be moved."""


@dataclass(frozen=True, slots=True)
class Position:
    """Position of a group on a partition, as offsets.

    position: next record that the group reads, None if it has not committed on this partition yet. end: next record
    that will be written. lag: number of records that the group has not read, without those that retention deleted.
    """

    topic: str
    partition: int
    position: int | None
    end: int
    lag: int


def positions(kafka: KafkaSettings, group: str) -> list[Position]:
    """Returns the group's position on every partition of every topic on which it has committed.

    Raises LogUnavailableError.
    """
    consumer = _group_consumer(kafka, group)
    try:
        committed = _committed(consumer)
        known = consumer.list_topics(timeout=_TIMEOUT_S).topics
        return [
            _position(consumer, topic, number, committed.get((topic, number)))
            for topic in sorted({topic for topic, _ in committed})
            for number in sorted(known[topic].partitions)
        ]
    except KafkaException as error:
        raise LogUnavailableError(f"cannot read the offsets of group {group}: {error}") from None
    finally:
        consumer.close()


def _position(consumer: Consumer, topic: str, number: int, position: int | None) -> Position:
    lowest, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_TIMEOUT_S)
    # A new group starts with the oldest record. Retention may have deleted records that a group has not read.
    return Position(topic, number, position, end, max(0, end - max(position or 0, lowest)))


def committed_offsets(kafka: KafkaSettings, group: str) -> Mapping[PartitionId, int]:
    """Returns the next offset that the group reads, for each partition with a commit. Raises LogUnavailableError."""
    consumer = _group_consumer(kafka, group)
    try:
        return _committed(consumer)
    except KafkaException as error:
        raise LogUnavailableError(f"cannot read the offsets of group {group}: {error}") from None
    finally:
        consumer.close()


def move(
    kafka: KafkaSettings, group: str, *, since_ms: int | None = None, like: str | None = None
) -> Mapping[PartitionId, int]:
    """Moves the offsets of a group without members and returns the new ones.

    since_ms: to the first records since that time, ms since the epoch; 0 = the earliest records. like: to the offsets
    of another group.

    Stages are idempotent, so reading again only costs time. The recorder's offsets cannot be moved, because they belong
    to its state. Raises GroupHasMembersError, UserError for another move that is not allowed, and LogUnavailableError.
    """
    if RECORDER in (group, like):
        raise UserError(
            "the recorder's offsets belong to its state and cannot be moved: to record calls again, use "
            "`audiotext replay`"
        )
    _require_no_members(kafka, group)
    consumer = _group_consumer(kafka, group)
    try:
        wanted = dict(committed_offsets(kafka, like)) if like else _offsets_since(consumer, since_ms or 0)
        if not wanted:
            raise UserError(f"group {like or group} has no committed offsets: it has never read from this log")
        offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in wanted.items()]
        consumer.commit(offsets=offsets, asynchronous=False)
        return _committed(consumer)
    except KafkaException as error:
        raise LogUnavailableError(f"cannot move the offsets of group {group}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _group_consumer(kafka: KafkaSettings, group: str) -> Consumer:
    """Returns a consumer that reads and commits the group's offsets without joining the group."""
    return Consumer(connection_config(kafka) | {"group.id": group, "enable.auto.commit": False})


def _committed(consumer: Consumer) -> dict[PartitionId, int]:
    topics = consumer.list_topics(timeout=_TIMEOUT_S).topics
    partitions = [
        TopicPartition(topic.value, number) for topic in Topic if topic in topics for number in topics[topic].partitions
    ]
    found = consumer.committed(partitions, timeout=_TIMEOUT_S)
    return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}


def _offsets_since(consumer: Consumer, since_ms: int) -> dict[PartitionId, int]:
    wanted = {}
    for topic, number in _committed(consumer):
        lowest, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_TIMEOUT_S)
        (first,) = consumer.offsets_for_times([TopicPartition(topic, number, since_ms)], timeout=_TIMEOUT_S)
        wanted[topic, number] = lowest if since_ms <= 0 else (end if first.offset < 0 else first.offset)
    return wanted


def _require_no_members(kafka: KafkaSettings, group: str) -> None:
    """Raises GroupHasMembersError while the group has members, because they would overwrite the new offsets."""
    admin = AdminClient(connection_config(kafka) | {"log_level": 3})
    (future,) = admin.describe_consumer_groups([group], request_timeout=_TIMEOUT_S).values()
    try:
        found = future.result()
    except KafkaException as error:
        raise LogUnavailableError(f"cannot read the members of group {group}: {error.args[0].str()}") from None
    if found.members or found.state not in _IDLE:
        raise GroupHasMembersError(f"group {group} still has {number_of(len(found.members), 'member')}")
