"""Access to call.media without Quix: parses records, writes the recorder's decisions, and reads ranges again."""

import logging
import threading
from collections.abc import Collection, Iterator
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from core.settings import KafkaSettings
from pipelines.recorder.timeline import TRACKS
from redpanda.client import producer_config
from redpanda.range_reader import OffsetRange, read_range
from schemas.media import MediaError, MediaRecord, RecordType, from_headers, to_headers
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_MAX_HEADER_BYTES = 65_535  # the limit of the journal's format


def parse(key: bytes | None, headers: Any, value: bytes | None) -> MediaRecord:
    """Parses a record of the log.

    Raises:
        MediaError: The record is invalid. It is skipped whenever it is read.
    """
    if key is None:
        raise MediaError("the record has no key")
    if any(content is not None and len(content) > _MAX_HEADER_BYTES for _, content in headers or ()):
        raise MediaError(f"a header has more than {_MAX_HEADER_BYTES} bytes")
    record = from_headers(key, headers, value)
    if record.type in (RecordType.MEDIA, RecordType.GAP) and record.track not in TRACKS:
        raise MediaError(f"unknown track {record.track!r}")
    return record


class DecisionWriter:
    """Writes `close`, `recorded` and `forget` records to the partition of the call's audio. Thread-safe."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = Producer(producer_config(kafka))
        self._stopping = threading.Event()
        # The client reports deliveries only while it is polled.
        self._thread = threading.Thread(target=self._poll, name="decisions", daemon=True)
        self._thread.start()

    def put(self, record: MediaRecord, partition: int) -> None:
        """Queues the record and returns. The client sends it until the log has it.

        If the process ends before that, the next recorder makes the same decision.
        """
        self._producer.produce(
            Topic.CALL_MEDIA,
            key=record.call_id,
            value=record.payload,
            headers=to_headers(record),
            partition=partition,
            on_delivery=_log_failure,
        )

    def close(self) -> None:
        """Waits up to a second for queued records."""
        self._stopping.set()
        self._producer.flush(1.0)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.5)


def _log_failure(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        logger.error("call %s: the log rejected a decision of the recorder: %s", message.key(), error)


class OffsetGapDetector:
    """Detects records that the log lost before they were read.

    The offsets of a partition of call.media have no gaps, because the topic is neither compacted nor transactional.
    """

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def expect(self, partition: int, offset: int) -> None:
        """Sets the offset from which the partition will be read."""
        self._next[partition] = offset

    def observe(self, partition: int, offset: int) -> None:
        """Records that the record at this offset was read. Logs an error if earlier records are missing."""
        expected = self._next.get(partition, offset)
        self._next[partition] = offset + 1
        if offset > expected:
            logger.error(
                "%s[%d] has lost offsets %d to %d before they were recorded: the recordings of their calls will have "
                "gaps. Increase the topic's retention, or add recorders",
                Topic.CALL_MEDIA, partition, expected, offset - 1,
            )  # fmt: skip


def read_calls(
    kafka: KafkaSettings, offsets: OffsetRange, call_ids: Collection[bytes], cancelled: threading.Event
) -> Iterator[tuple[int, MediaRecord]]:
    """Yields the records of these calls in a range of call.media, in log order, each with its offset.

    Reads every record of the range, because a partition has no index of calls. Ends early once cancelled.

    Raises:
        LogUnavailableError: The log cannot be read.
    """
    gap_detector = OffsetGapDetector()
    gap_detector.expect(offsets.partition, offsets.first_offset)
    for message in read_range(kafka, offsets, cancelled):
        offset, key = message.offset(), message.key()
        assert offset is not None  # the log's records have one
        gap_detector.observe(offsets.partition, offset)
        if key not in call_ids:
            continue
        try:
            yield offset, parse(key, message.headers(), message.value())
        except MediaError:
            continue
