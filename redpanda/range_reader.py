"""Reading a stretch of a topic's partition again, outside of any consumer group."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config

_BATCH = 500
_WAIT_S = (
    0.1  # how soon a cancelled scan notices, and how long it waits for more before it looks whether it is at the end
)
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The records with first_offset ≤ offset < end_offset of a partition; end_offset None: all that are there now."""

    topic: str
    partition: int
    first_offset: int = 0
    end_offset: int | None = None


def read_range(kafka: KafkaSettings, stretch: OffsetRange, cancelled: threading.Event) -> Iterator[Message]:
    """Those of the stretch's records which the log still has, in its order.

    Ends early once cancelled. Raises LogUnavailableError.
    """
    consumer = Consumer(
        connection_config(kafka)
        | {
            # A group is demanded by the client but never joined: no subscription, no commit.
            "group.id": "audiotext-scan",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 16_384,  # what is read ahead
        }
    )
    place = TopicPartition(stretch.topic, stretch.partition)
    try:
        lowest, highest = consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
        place.offset = max(stretch.first_offset, lowest)
        end = highest if stretch.end_offset is None else min(stretch.end_offset, highest)
        if place.offset < end:
            consumer.assign([place])
            yield from _messages(consumer, end, cancelled)
    except KafkaException as error:
        raise LogUnavailableError(f"{stretch.topic}[{stretch.partition}] cannot be read: {error}") from error
    finally:
        consumer.close()


def _messages(consumer: Consumer, end: int, cancelled: threading.Event) -> Iterator[Message]:
    heard = time.monotonic()
    while not cancelled.is_set():
        messages = consumer.consume(_BATCH, _WAIT_S)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > _TIMEOUT_S:
            raise LogUnavailableError(f"the log has not answered for {_TIMEOUT_S:g} s")
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return
                raise LogUnavailableError(f"the log cannot be read: {error}")
            offset = message.offset()
            assert offset is not None  # the log's records have one
            if offset < end:
                yield message
            if offset >= end - 1:
                return
