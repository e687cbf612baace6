"""Where a consumer group stands on the log, and putting it elsewhere: to read again, or to hand its place on."""

from collections.abc import Mapping

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from core.errors import UserError
from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config
from schemas.topics import Topic

RECORDER = "recorder"

Place = tuple[str, int]  # topic, partition

_TIMEOUT_S = 10.0
_IDLE = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD, ConsumerGroupState.UNKNOWN)


def positions(kafka: KafkaSettings, group: str) -> Mapping[Place, int]:
    """The next offset the group reads on each partition it ever committed one of. Raises LogUnavailableError."""
    consumer = _member(kafka, group)
    try:
        return _committed(consumer)
    except KafkaException as error:
        raise LogUnavailableError(f"the log cannot be asked: {error}") from None
    finally:
        consumer.close()


def move(
    kafka: KafkaSettings, group: str, *, since_ms: int | None = None, like: str | None = None
) -> Mapping[Place, int]:
    """Puts a group that nobody is a member of at the first records since a time (ms since the epoch; 0: the earliest),
    or where another group stands. Returns where it stands then.

    Everything a stage does is idempotent, so to read again costs time only; the recorder's place is bound to its
    states and is refused. Raises UserError for what must not be done, LogUnavailableError.
    """
    if RECORDER in (group, like):
        raise UserError("the recorder's place belongs to its states: to record calls again, use `audiotext replay`")
    _require_nobody(kafka, group)
    consumer = _member(kafka, group)
    try:
        wanted = dict(positions(kafka, like)) if like else _since(consumer, since_ms or 0)
        if not wanted:
            raise UserError(f"group {like or group} stands nowhere: it has never read anything from this log")
        places = [TopicPartition(topic, number, offset) for (topic, number), offset in wanted.items()]
        consumer.commit(offsets=places, asynchronous=False)
        return _committed(consumer)
    except KafkaException as error:
        raise LogUnavailableError(f"group {group} cannot be moved: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _member(kafka: KafkaSettings, group: str) -> Consumer:
    """It joins nothing; it asks and commits in the group's name."""
    return Consumer(connection_config(kafka) | {"group.id": group, "enable.auto.commit": False})


def _committed(consumer: Consumer) -> dict[Place, int]:
    topics = consumer.list_topics(timeout=_TIMEOUT_S).topics
    places = [
        TopicPartition(topic.value, number) for topic in Topic if topic in topics for number in topics[topic].partitions
    ]
    found = consumer.committed(places, timeout=_TIMEOUT_S)
    return {(place.topic, place.partition): place.offset for place in found if place.offset >= 0}


def _since(consumer: Consumer, since_ms: int) -> dict[Place, int]:
    wanted = {}
    for topic, number in _committed(consumer):
        lowest, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_TIMEOUT_S)
        (first,) = consumer.offsets_for_times([TopicPartition(topic, number, since_ms)], timeout=_TIMEOUT_S)
        wanted[topic, number] = lowest if since_ms <= 0 else (end if first.offset < 0 else first.offset)
    return wanted


def _require_nobody(kafka: KafkaSettings, group: str) -> None:
    """Raises UserError while the group has members: they would overwrite what is put here."""
    admin = AdminClient(connection_config(kafka) | {"log_level": 3})
    (future,) = admin.describe_consumer_groups([group], request_timeout=_TIMEOUT_S).values()
    try:
        found = future.result()
    except KafkaException as error:
        raise LogUnavailableError(f"the log cannot be asked: {error.args[0].str()}") from None
    if found.members or found.state not in _IDLE:
        raise UserError(
            f"group {group} is at work ({len(found.members)} members): stop its service first, then wait a minute"
        )
