"""Format of the states of calls in RocksDB and in the changelog topic: JSON under the key `call id|"tenant"`.

Quix offers a state only together with a record of its key. To find calls that may never get another record, this module
reads the keys itself.
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
"""Tenant and call id."""

_BEFORE_TENANT = SEPARATOR + b'"'


def key_of(call: Call) -> bytes:
    """Returns the key of a call's state."""
    tenant, call_id = call
    return call_id.encode() + SEPARATOR + dumps(tenant)


def call_of(key: bytes) -> Call:
    """Returns the call whose state has this key.

    A call id may contain any character. The tenant is a JSON string, so unescaped quotes occur only around it.
    """
    end = key.rindex(_BEFORE_TENANT, 0, len(key) - 1)
    return loads(key[end + len(SEPARATOR) :]), key[:end].decode()


def state_of(value: bytes) -> CallState:
    """Returns the state in a stored value."""
    return from_json(loads(value))


def read_changelog(
    kafka: KafkaSettings, topic: str, partition: int, calls: Collection[Call], cancelled: threading.Event
) -> dict[Call, CallState]:
    """Returns the latest states of these calls on a changelog topic. This process need not own the partition.

    Raises:
        LogUnavailableError: The log cannot be read.
    """
    wanted = {key_of(call): call for call in calls}
    values: dict[Call, bytes] = {}
    for message in read_range(kafka, OffsetRange(topic, partition), cancelled):
        key, value = message.key(), message.value()
        if not isinstance(key, bytes) or key not in wanted:
            continue
        if value is None:
            values.pop(wanted[key], None)  # the state was deleted
        else:
            values[wanted[key]] = value
    return {call: state_of(value) for call, value in values.items()}


def decode(items: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[Call, CallState]]:
    """Yields the calls and states in stored pairs of key and value."""
    for key, value in items:
        yield call_of(key), state_of(value)
