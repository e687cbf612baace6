"""Reading the end of the log: what comes in from now on. No group, no commit: it is in nobody's way."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from core.settings import KafkaSettings
from redpanda.client import connection_config
from schemas.topics import Topic

log = logging.getLogger(__name__)

# What tells that something about a call has changed.
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
_ASK_S = 10.0
_AGAIN_S = 2.0
_COUNT_S = 60.0  # how often it is asked whether partitions were added


class Tail:
    """A thread that hands on the records that come, until it is closed. It takes up after the log was away."""

    def __init__(self, kafka: KafkaSettings, take: Callable[[Sequence[Message]], None]) -> None:
        """take: is called from the thread. Raises LogUnavailableError if no log is configured."""
        self._config = connection_config(kafka) | {
            "group.id": "audiotext-live",  # demanded by the client, never joined
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 8_192,
        }
        self._take = take
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="live-tail", daemon=True).start()

    def close(self) -> None:
        """Ends it soon."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._read()
            except KafkaException as error:
                log.warning("live calls cannot be followed: %s; trying again in %g s", error, _AGAIN_S)
                self._closed.wait(_AGAIN_S)

    def _read(self) -> None:
        consumer = Consumer(self._config)
        try:
            followed = _ends(consumer)
            consumer.assign(followed)
            counted_at = time.monotonic()
            while not self._closed.is_set():
                if time.monotonic() - counted_at > _COUNT_S:
                    known = {(place.topic, place.partition) for place in followed}
                    added = [place for place in _ends(consumer) if (place.topic, place.partition) not in known]
                    if added:
                        consumer.incremental_assign(added)
                        followed += added
                    counted_at = time.monotonic()
                messages = [one for one in consumer.consume(_BATCH, _WAIT_S) if one.error() is None]
                if messages:
                    self._take(messages)
        finally:
            consumer.close()


def _ends(consumer: Consumer) -> list[TopicPartition]:
    topics = consumer.list_topics(timeout=_ASK_S).topics
    return [
        TopicPartition(name, number, OFFSET_END)
        for name in (Topic.CALL_MEDIA, *EVENTS)
        if name in topics
        for number in topics[name].partitions
    ]
