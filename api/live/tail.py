"""Reads new records at the end of the log, without a consumer group or commits, so it affects no other reader."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from core.settings import KafkaSettings
from redpanda.client import connection_config
from schemas.topics import Topic

logger = logging.getLogger(__name__)

# Topics whose records mean that a call has changed.
EVENTS = (
    Topic.CALL_EVENTS,
    Topic.RECORDING_READY,
    Topic.TRANSCRIPT_READY,
    Topic.SUMMARY_READY,
    Topic.EMBEDDING_READY,
    Topic.USAGE_RECORDED,
    Topic.DEAD_LETTERS,
    Topic.REPLAY_PROGRESS,
)
_BATCH = 200
_WAIT_S = 0.1
_METADATA_TIMEOUT_S = 10.0
_RETRY_S = 2.0
_PARTITION_CHECK_S = 60.0  # interval between checks for added partitions


class Tail:
    """Thread that passes new records on until it is closed. It resumes after the log was unavailable."""

    def __init__(self, kafka: KafkaSettings, take: Callable[[Sequence[Message]], None]) -> None:
        """take: receives records, invoked in the thread. Raises LogUnavailableError if no log is configured."""
        self._config = connection_config(kafka) | {
            "group.id": "audiotext-live",  # the client library requires it; the group is never joined
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 8_192,
        }
        self._take = take
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="live-tail", daemon=True).start()

    def close(self) -> None:
        """Makes the thread end soon."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._read()
            except KafkaException as error:
                logger.warning("live calls cannot be followed: %s; retrying in %g s", error, _RETRY_S)
                self._closed.wait(_RETRY_S)

    def _read(self) -> None:
        consumer = Consumer(self._config)
        try:
            followed = _end_positions(consumer)
            consumer.assign(followed)
            checked_at = time.monotonic()
            while not self._closed.is_set():
                if time.monotonic() - checked_at > _PARTITION_CHECK_S:
                    known = {(one.topic, one.partition) for one in followed}
                    added = [one for one in _end_positions(consumer) if (one.topic, one.partition) not in known]
                    if added:
                        consumer.incremental_assign(added)
                        followed += added
                    checked_at = time.monotonic()
                messages = [one for one in consumer.consume(_BATCH, _WAIT_S) if one.error() is None]
                if messages:
                    self._take(messages)
        finally:
            consumer.close()


def _end_positions(consumer: Consumer) -> list[TopicPartition]:
    topics = consumer.list_topics(timeout=_METADATA_TIMEOUT_S).topics
    return [
        TopicPartition(name, number, OFFSET_END)
        for name in (Topic.CALL_MEDIA, *EVENTS)
        if name in topics
        for number in topics[name].partitions
    ]
