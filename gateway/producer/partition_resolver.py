"""Chooses the partition of each call's records, the same one for the whole life of the process.

The recorder knows a call by its partition, so all records of a call must be on one partition. The number of partitions
is read once and then kept: a broker that restarts may briefly report fewer partitions, and a changed number would move
calls. docs/operations.md explains how to add partitions.
"""

import logging
import threading

from confluent_kafka import Consumer, KafkaException

from core.settings import KafkaSettings
from redpanda.client import connection_config
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_TIMEOUT_S = 3.0
_RETRY_S = 0.2
_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


class PartitionResolver:
    """Maps call ids to partitions. Thread-safe. `start` begins to read the number of partitions; `close` ends it."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Connects to nothing yet. Raises LogUnavailableError if no log is configured."""
        self._config = connection_config(kafka) | {"group.id": "audiotext-partitions", "enable.auto.commit": False}
        self._partitions = 0  # 0 = not known yet
        self._closed = threading.Event()

    def start(self) -> None:
        """Reads the number of partitions in a thread, until the log answers and the topics exist."""
        threading.Thread(target=self._run, name="partitions", daemon=True).start()

    def close(self) -> None:
        """Ends the thread soon."""
        self._closed.set()

    def partition_for(self, call_id: str) -> int | None:
        """Returns the partition of the call, or None if the number of partitions is not known yet."""
        return partition_of(call_id, self._partitions) if self._partitions else None

    def _run(self) -> None:
        consumer: Consumer | None = None
        while not self._closed.is_set() and not self._partitions:
            try:
                consumer = consumer or Consumer(self._config)
                self._partitions = _count(consumer)
            except KafkaException as error:
                logger.debug("cannot read the number of partitions, trying again: %s", error)
            if not self._partitions:
                self._closed.wait(_RETRY_S)
        if consumer is not None:
            consumer.close()


def _count(consumer: Consumer) -> int:
    """Returns the partitions that call.media and call.events both have; 0 if a topic is missing."""
    found = consumer.list_topics(timeout=_TIMEOUT_S).topics
    return min(len(found[topic].partitions) if topic in found else 0 for topic in (Topic.CALL_MEDIA, Topic.CALL_EVENTS))


def partition_of(call_id: str, partitions: int) -> int:
    """Returns the partition that Kafka's Java clients and `redpanda.client` choose for the key."""
    return (murmur2(call_id.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Returns the 32-bit hash from which Kafka's clients compute a key's partition."""
    hashed = _SEED ^ len(data)
    words_end = len(data) & ~3
    for start in range(0, words_end, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        word = (word ^ word >> 24) * _M & _MASK
        hashed = hashed * _M & _MASK ^ word
    if len(data) > words_end:
        hashed = (hashed ^ int.from_bytes(data[words_end:], "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return hashed ^ hashed >> 15
