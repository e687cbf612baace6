"""Adding partitions while calls go on: announced first, made second, used third.

1. What is about to happen is announced: gateways no longer follow the number of partitions a broker tells.
2. The partitions are made. The recorder's changelog gets as many, before call.media does, or the recorder could not
   hold the state of calls there.
3. That they are used is announced, for calls that begin after a moment when every gateway has read it.
Killed anywhere, nothing has happened to any call; done again, it goes on.
"""

import logging
import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from pydantic import ValidationError

from core.errors import UserError
from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config, producer_config
from redpanda.partition_layout import layouts_of
from redpanda.range_reader import OffsetRange, read_range
from schemas.events import PartitionLayoutChanged
from schemas.ids import uuid_of
from schemas.topics import Topic

log = logging.getLogger(__name__)

CHANGELOG = f"changelog__recorder--{Topic.CALL_MEDIA}--default"
"""The recorder's states, as Quix names the topic; it must have as many partitions as call.media."""

NOTICE_S = 60.0
"""How long after an announcement every gateway has read it, and its producers know of new partitions: several times
`gateway.producer.partition_resolver.REFRESH_S`, and twice `redpanda.client.METADATA_S`."""

_TIMEOUT_S = 30.0


def expand(kafka: KafkaSettings, wanted: int, say: Callable[[str], None], *, notice_s: float = NOTICE_S) -> None:
    """Spreads calls that begin from now on over `wanted` partitions; open calls end where they began.

    Takes twice the notice. say: is told what goes on. Raises UserError if it cannot be, LogUnavailableError.
    """
    admin = AdminClient(connection_config(kafka) | {"log_level": 3})
    found = _partitions(admin)
    if absent := [topic.value for topic in Topic if topic not in found]:
        raise UserError(f"topics are missing ({', '.join(absent)}): `audiotext topics apply` makes them")
    used = layouts_of(read_announcements(kafka), found[Topic.CALL_MEDIA]).current(_now_ms())
    most = max(found[topic] for topic in Topic)
    if wanted < most:
        raise UserError(f"the log has {most} partitions, and a topic never loses any: ask for {most} or more")
    if wanted == used:
        say(f"calls are spread over {used} partitions already")
        return
    say(f"announcing {wanted} partitions instead of {used}; gateways have {notice_s:g} s to read it")
    _announce(kafka, wanted, used, None)
    time.sleep(notice_s)
    found = _partitions(admin)  # a recorder that has begun meanwhile has made its changelog
    for name in sorted(found.keys() & {*Topic, CHANGELOG}, key=_order):
        if found[name] < wanted:
            _add(admin, name, wanted)
    say(f"made them; calls that begin in {notice_s:g} s or later are spread over {wanted} partitions")
    _announce(kafka, wanted, used, _now_ms() + round(notice_s * 1000))
    time.sleep(notice_s)


def sync_changelog(kafka: KafkaSettings, name: str = CHANGELOG, leader: str = Topic.CALL_MEDIA) -> None:
    """Gives a topic the partitions it lacks beside its leader; nothing where one of the two is not there.

    A recorder that makes its changelog while call.media grows makes it too small, and could never start again. A
    partition of the changelog belongs to the one of the same number: adding some moves no state.
    Raises LogUnavailableError.
    """
    admin = AdminClient(connection_config(kafka) | {"log_level": 3})
    found = _partitions(admin)
    if name in found and leader in found and found[name] < found[leader]:
        log.warning("%s gets %d partitions, as %s has; it had %d", name, found[leader], leader, found[name])
        _add(admin, name, found[leader])


def read_announcements(kafka: KafkaSettings, first: int = 0, end: int | None = None) -> list[PartitionLayoutChanged]:
    """The layouts announced in that stretch of log.layouts, in order. Raises LogUnavailableError."""
    stretch = OffsetRange(Topic.LOG_LAYOUTS, 0, first, end)
    found = []
    for message in read_range(kafka, stretch, threading.Event()):
        try:
            found.append(PartitionLayoutChanged.model_validate_json(message.value() or b""))
        except ValidationError:
            log.error("%s offset %s is no announcement and is passed over", Topic.LOG_LAYOUTS, message.offset())
    return found


def _order(name: str) -> int:
    """What must be there first, first."""
    return (CHANGELOG, *(topic for topic in Topic if topic is not Topic.CALL_MEDIA), Topic.CALL_MEDIA).index(name)


def _partitions(admin: AdminClient) -> dict[str, int]:
    try:
        metadata = admin.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise LogUnavailableError(f"the log cannot be reached: {error.args[0].str()}") from None
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _add(admin: AdminClient, name: str, wanted: int) -> None:
    (future,) = admin.create_partitions([NewPartitions(str(name), wanted)], operation_timeout=_TIMEOUT_S).values()
    try:
        future.result()
    except KafkaException as error:
        raise LogUnavailableError(f"{name} gets no partitions: {error.args[0].str()}; ask again") from None


def _announce(kafka: KafkaSettings, partitions: int, before: int, from_ms: int | None) -> None:
    now = _now_ms()
    event = PartitionLayoutChanged(
        event_id=uuid_of("layout.announced", partitions, before, now),
        call_id="",
        tenant="",
        occurred_at_ms=now,
        partitions=partitions,
        before=before,
        from_ms=from_ms,
    )
    producer = Producer(producer_config(kafka))
    producer.produce(Topic.LOG_LAYOUTS, event.model_dump_json(), partition=0)
    if producer.flush(_TIMEOUT_S) > 0:
        raise LogUnavailableError("the log does not take the announcement; ask again")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
