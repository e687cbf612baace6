"""Rebuilds journals from the log if they do not match the state of their call.

That happens if the disk was replaced, or if another process owned the partition meanwhile. The log still has the
records. All journals of a partition are completed in one pass, with bounded memory, in a thread of its own, while the
recorder continues with other partitions.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.recorder.journal import PartId, encode_identity, encode_record, read, recover
from pipelines.recorder.spool import JOURNAL, cannot_write, directory_of, sync, write_frames
from pipelines.recorder.state_machine import UnrecordedPart
from redpanda.range_reader import OffsetRange
from schemas.media import CloseReason, MediaRecord, RecordType
from schemas.topics import Topic

logger = logging.getLogger(__name__)

ReadLog = Callable[[OffsetRange, Collection[bytes], threading.Event], Iterator[tuple[int, MediaRecord]]]
"""Range of call.media, call ids, cancelled → the records of these calls in the range, each with its offset."""

_DECISIONS = (RecordType.CLOSE, RecordType.RECORDED, RecordType.FORGET)
_BUFFER_BYTES = 16 * 1024 * 1024

Parts = Mapping[PartId, UnrecordedPart]


@dataclass(slots=True)
class _IncompleteJournal:
    """Journal that lacks records. last_offset: offset of the last record it has so far, -1 without one."""

    identity: PartId
    part: UnrecordedPart
    last_offset: int
    frames: list[bytes] = field(default_factory=list)

    def add(self, record: MediaRecord, offset: int) -> int:
        """Adds the record if it belongs to the part and is missing. Returns the number of added bytes."""
        if not self.last_offset < offset <= self.part.last_offset or offset < self.part.first_offset:
            return 0
        # While a part is open, every record of its call belongs to it, except decisions that did not close it.
        closing = self.part.closed and offset == self.part.last_offset
        if record.type in _DECISIONS and not closing:
            return 0
        if self.last_offset < 0:
            self.frames.append(encode_identity(self.identity))
        frame = encode_record(record, offset)
        self.frames.append(frame)
        self.last_offset = offset
        return len(frame)


def rebuild_journals(
    root: Path, parts: Parts, known: Mapping[PartId, int], read_log: ReadLog, cancelled: threading.Event
) -> dict[PartId, int]:
    """Completes the journals of these parts, all of one partition, and syncs them to disk.

    Records that the log has lost too are logged as errors and left out.

    Args:
        root: Directory of the spool.
        parts: Parts whose journals must be complete.
        known: Last offset of the journals that need no check.
        read_log: Reads records from the log.
        cancelled: Stops the work. The journals then stay incomplete but valid.

    Returns:
        The last offset of each journal; nothing if the work was cancelled.

    Raises:
        SpoolError: The disk does not accept the records.
        LogUnavailableError: The log cannot be read.
    """
    try:
        last_offsets = {identity: _last_offset(root, identity, known) for identity in parts if not cancelled.is_set()}
        if cancelled.is_set():
            return {}
        incomplete = [
            _IncompleteJournal(identity, part, last_offsets[identity])
            for identity, part in parts.items()
            if last_offsets[identity] < part.last_offset
        ]
        if incomplete:
            _read_missing(root, incomplete, read_log, cancelled)
        if cancelled.is_set():
            return {}
        for journal in incomplete:
            if journal.last_offset < journal.part.last_offset:
                _end_without_log(root, journal)
        sync(directory_of(root, journal.identity) for journal in incomplete)
    except OSError as error:
        raise cannot_write(root, error) from error
    return {identity: max(last_offsets[identity], part.last_offset) for identity, part in parts.items()}


def _last_offset(root: Path, identity: PartId, known: Mapping[PartId, int]) -> int:
    offset = known.get(identity)
    return recover(directory_of(root, identity) / JOURNAL).last_offset if offset is None else offset


def _read_missing(
    root: Path, incomplete: list[_IncompleteJournal], read_log: ReadLog, cancelled: threading.Event
) -> None:
    partition = incomplete[0].identity.partition
    first = min(max(journal.part.first_offset, journal.last_offset + 1) for journal in incomplete)
    end = max(journal.part.last_offset for journal in incomplete) + 1
    logger.warning(
        "partition %d: the journals of %d calls are incomplete on this disk; reading offsets %d to %d again",
        partition, len(incomplete), first, end - 1,
    )  # fmt: skip
    by_call: dict[tuple[str, str], list[_IncompleteJournal]] = {}
    for journal in incomplete:
        by_call.setdefault((journal.identity.tenant, journal.identity.call_id), []).append(journal)
    call_ids = {call_id.encode() for _, call_id in by_call}
    buffered = 0
    for offset, record in read_log(OffsetRange(Topic.CALL_MEDIA, partition, first, end), call_ids, cancelled):
        for journal in by_call.get((record.tenant, record.call_id), ()):
            buffered += journal.add(record, offset)
        if buffered > _BUFFER_BYTES:
            _write_frames(root, incomplete)
            buffered = 0
    _write_frames(root, incomplete)


def _write_frames(root: Path, incomplete: Iterable[_IncompleteJournal]) -> None:
    for journal in incomplete:
        if journal.frames:
            write_frames(directory_of(root, journal.identity), journal.frames)
            journal.frames.clear()


def _end_without_log(root: Path, journal: _IncompleteJournal) -> None:
    """Ends the journal of a part whose last record the log no longer has.

    The part continues with the records it has. A closed part must end with a close record, or its recording could
    never be made.
    """
    identity, part = journal.identity, journal.part
    logger.error(
        "call %s part %d: neither this disk nor the log has the record at offset %d of partition %d; the missing audio "
        "becomes a gap. Increase the retention of call.media",
        identity.call_id, identity.part, part.last_offset, identity.partition,
    )  # fmt: skip
    directory = directory_of(root, identity)
    frames = [encode_identity(identity)] if journal.last_offset < 0 else []
    if part.closed:
        last = deque(read(directory / JOURNAL) if journal.last_offset >= 0 else (), maxlen=1)
        close = MediaRecord(
            type=RecordType.CLOSE,
            call_id=identity.call_id,
            tenant=identity.tenant,
            carrier=last[0].record.carrier if last else "",
            stream_id="",
            at_ms=last[0].record.at_ms if last else time.time_ns() // 1_000_000,
            detail=CloseReason.IDLE,
            part=identity.part,
        )
        frames.append(encode_record(close, part.last_offset))
    write_frames(directory, frames)
