"""call.media outside of Quix: what its records are, putting the recorder's own on it, reading a stretch of it again."""

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

log = logging.getLogger(__name__)

_HEADER_BYTES = 65_535  # what a journal has room for


def parse(key: bytes | None, headers: Any, value: bytes | None) -> MediaRecord:
    """The record the log holds. Raises MediaError for what is none: it is passed over, whenever it is read."""
    if key is None:
        raise MediaError("no key")
    if any(content is not None and len(content) > _HEADER_BYTES for _, content in headers or ()):
        raise MediaError(f"a header of more than {_HEADER_BYTES} bytes")
    record = from_headers(key, headers, value)
    if record.type in (RecordType.MEDIA, RecordType.GAP) and record.track not in TRACKS:
        raise MediaError(f"no such track: {record.track!r}")
    return record


class DecisionWriter:
    """Puts `close` and `recorded` records beside the audio they are about. Thread-safe."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = Producer(producer_config(kafka))
        self._stopping = threading.Event()
        # The client tells of deliveries only when asked to.
        self._thread = threading.Thread(target=self._serve, name="decisions", daemon=True)
        self._thread.start()

    def put(self, record: MediaRecord, partition: int) -> None:
        """Hands the record over and returns; it is sent until the log has it. If the process ends before, whoever
        comes next decides the same again."""
        self._producer.produce(
            Topic.CALL_MEDIA,
            key=record.call_id,
            value=record.payload,
            headers=to_headers(record),
            partition=partition,
            on_delivery=_complain,
        )

    def close(self) -> None:
        """Waits a moment for what is still on its way."""
        self._stopping.set()
        self._producer.flush(1.0)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.5)


def _complain(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        log.error("the log refused a decision about %s: %s", message.key(), error)


class OffsetGapDetector:
    """Notices what the log has lost before it was read. Records of one partition of call.media follow each other
    without a hole, for nothing on it is compacted or transactional."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def expect(self, partition: int, offset: int) -> None:
        """The partition will be read from there."""
        self._next[partition] = offset

    def saw(self, partition: int, offset: int) -> None:
        """Its record at that offset was read. Complains of those that should have come before."""
        expected = self._next.get(partition, offset)
        self._next[partition] = offset + 1
        if offset > expected:
            log.error(
                "%s[%d] has lost offsets %d to %d before they were recorded: the calls in them miss that audio, and "
                "their recordings say so. Raise the topic's retention, or add recorders",
                Topic.CALL_MEDIA, partition, expected, offset - 1,
            )  # fmt: skip


def read_calls(
    kafka: KafkaSettings, stretch: OffsetRange, call_ids: Collection[bytes], cancelled: threading.Event
) -> Iterator[tuple[int, MediaRecord]]:
    """These calls' records in a stretch of call.media, in log order, each with its offset.

    Reads everything in between, whose ever it is: a partition knows no calls. Ends early once cancelled. Raises
    LogUnavailableError.
    """
    continuity = OffsetGapDetector()
    continuity.expect(stretch.partition, stretch.first_offset)
    for message in read_range(kafka, stretch, cancelled):
        offset, key = message.offset(), message.key()
        assert offset is not None  # the log's records have one
        continuity.saw(stretch.partition, offset)
        if key not in call_ids:
            continue
        try:
            yield offset, parse(key, message.headers(), message.value())
        except MediaError:
            continue
