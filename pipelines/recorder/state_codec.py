"""How Quix keeps calls' states, in RocksDB and in the changelog topic alike: under `call id|"tenant"`, as JSON.

Quix gives a state only to whoever has a record of its key. To find the calls of which no record may ever come again
the keys have to be read here.
"""

import threading
from collections.abc import Collection, Iterator

from quixstreams.state.metadata import SEPARATOR
from quixstreams.utils.json import dumps, loads

from core.settings import KafkaSettings
from pipelines.recorder.state_machine import CallState, from_json
from redpanda.range_reader import OffsetRange, read_range
from schemas.topics import Topic

CHANGELOG = f"changelog__recorder--{Topic.CALL_MEDIA}--default"
"""The topic with the recorder's states, as Quix names it. It has as many partitions as call.media."""

Call = tuple[str, str]
"""tenant, call id"""

_BEFORE_TENANT = SEPARATOR + b'"'


def key_of(call: Call) -> bytes:
    """The key of a call's state."""
    tenant, call_id = call
    return call_id.encode() + SEPARATOR + dumps(tenant)


def call_of(key: bytes) -> Call:
    """The call whose state has this key. A call id may hold anything; a tenant's JSON has bare quotes only around."""
    place = key.rindex(_BEFORE_TENANT, 0, len(key) - 1)
    return loads(key[place + len(SEPARATOR) :]), key[:place].decode()


def state_of(value: bytes) -> CallState:
    """The state in a stored value."""
    return from_json(loads(value))


def read_changelog(
    kafka: KafkaSettings, topic: str, partition: int, calls: Collection[Call], cancelled: threading.Event
) -> dict[Call, CallState]:
    """These calls' latest states on a changelog topic, whoever owns the partition. Raises LogUnavailableError."""
    wanted = {key_of(call): call for call in calls}
    values: dict[Call, bytes] = {}
    for message in read_range(kafka, OffsetRange(topic, partition), cancelled):
        key, value = message.key(), message.value()
        if not isinstance(key, bytes) or key not in wanted:
            continue
        if value is None:
            values.pop(wanted[key], None)  # forgotten
        else:
            values[wanted[key]] = value
    return {call: state_of(value) for call, value in values.items()}


def decode(items: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[Call, CallState]]:
    """The calls and states in stored pairs."""
    for key, value in items:
        yield call_of(key), state_of(value)
