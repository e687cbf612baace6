"""Reads a range of offsets of one partition, outside of any consumer group."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config

_BATCH = 500
_WAIT_S = 0.1  # longest wait for records before the reader checks for cancellation and for the end of the range
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Records of a partition with first_offset ≤ offset < end_offset; end_offset None = up to the current end."""

    topic: str
    partition: int
    first_offset: int = 0
    end_offset: int | None = None


def read_range(kafka: KafkaSettings, offsets: OffsetRange, cancelled: threading.Event) -> Iterator[Message]:
    """Yields the records of the range that the log still has, in offset order.

    Ends early when `cancelled` is set. Raises LogUnavailableError.
    """
    consumer = Consumer(
        connection_config(kafka)
        | {
            # The client library requires a group, but this consumer neither subscribes nor commits.
            "group.id": "audiotext-scan",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 16_384,  # limit of prefetched records
        }
    )
    start = TopicPartition(offsets.topic, offsets.partition)
    try:
        lowest, highest = consumer.get_watermark_offsets(start, timeout=_TIMEOUT_S)
        start.offset = max(offsets.first_offset, lowest)
        end = highest if offsets.end_offset is None else min(offsets.end_offset, highest)
        if start.offset < end:
            consumer.assign([start])
            yield from _messages(consumer, end, cancelled)
    except KafkaException as error:
        raise LogUnavailableError(f"{offsets.topic}[{offsets.partition}] cannot be read: {error}") from error
    finally:
        consumer.close()


def _messages(consumer: Consumer, end: int, cancelled: threading.Event) -> Iterator[Message]:
    last_message_s = time.monotonic()
    while not cancelled.is_set():
        messages = consumer.consume(_BATCH, _WAIT_S)
        if messages:
            last_message_s = time.monotonic()
        elif time.monotonic() - last_message_s > _TIMEOUT_S:
            raise LogUnavailableError(f"the log has not answered for {_TIMEOUT_S:g} s")
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return
                raise LogUnavailableError(f"the log cannot be read: {error}")
            offset = message.offset()
            assert offset is not None  # every record read from the log has an offset
            if offset < end:
                yield message
            if offset >= end - 1:
                return
