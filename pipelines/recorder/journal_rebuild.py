"""Journals that are not what their calls' states say they are: the disk is another, or the partition was elsewhere in
between. The log still has the records, so the journals are completed from there: all those of a partition in one pass,
with bounded memory, beside the thread that goes on recording other partitions."""

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

log = logging.getLogger(__name__)

Read = Callable[[OffsetRange, Collection[bytes], threading.Event], Iterator[tuple[int, MediaRecord]]]
"""stretch of call.media, call ids, cancelled → those calls' records in it, each with its offset"""

_DECISIONS = (RecordType.CLOSE, RecordType.RECORDED, RecordType.FORGET)
_BUFFER_BYTES = 16 * 1024 * 1024

Parts = Mapping[PartId, UnrecordedPart]


@dataclass(slots=True)
class _Missing:
    """A journal on its way. held: its last offset so far."""

    identity: PartId
    part: UnrecordedPart
    held: int
    frames: list[bytes] = field(default_factory=list)

    def add(self, record: MediaRecord, offset: int) -> int:
        """Takes the record if it is the part's and missing. Returns the bytes it takes."""
        if not self.held < offset <= self.part.last_offset or offset < self.part.first_offset:
            return 0
        # While a part is open everything of its call belongs to it, except decisions that did not close it.
        closing = self.part.closed and offset == self.part.last_offset
        if record.type in _DECISIONS and not closing:
            return 0
        if self.held < 0:
            self.frames.append(encode_identity(self.identity))
        frame = encode_record(record, offset)
        self.frames.append(frame)
        self.held = offset
        return len(frame)


def rebuild_journals(
    root: Path, parts: Parts, known: Mapping[PartId, int], read_log: Read, cancelled: threading.Event
) -> dict[PartId, int]:
    """Sees to it that the journals of these parts, all of one partition, hold what they must, on disk.

    root: the spool. known: last offset of the journals that need no reading. Returns the last offset of each journal;
    of nothing if it was cancelled, which leaves good beginnings of journals behind. What the log has lost too is
    complained of and left out. Raises SpoolError, redpanda.client.LogUnavailableError.
    """
    try:
        held = {identity: _held(root, identity, known) for identity in parts if not cancelled.is_set()}
        if cancelled.is_set():
            return {}
        missing = [
            _Missing(identity, part, held[identity])
            for identity, part in parts.items()
            if held[identity] < part.last_offset
        ]
        if missing:
            _read_again(root, missing, read_log, cancelled)
        if cancelled.is_set():
            return {}
        for journal in missing:
            if journal.held < journal.part.last_offset:
                _do_without(root, journal)
        sync(directory_of(root, journal.identity) for journal in missing)
    except OSError as error:
        raise cannot_write(root, error) from error
    return {identity: max(held[identity], part.last_offset) for identity, part in parts.items()}


def _held(root: Path, identity: PartId, known: Mapping[PartId, int]) -> int:
    offset = known.get(identity)
    return recover(directory_of(root, identity) / JOURNAL).last_offset if offset is None else offset


def _read_again(root: Path, missing: list[_Missing], read_log: Read, cancelled: threading.Event) -> None:
    partition = missing[0].identity.partition
    first = min(max(journal.part.first_offset, journal.held + 1) for journal in missing)
    end = max(journal.part.last_offset for journal in missing) + 1
    log.warning(
        "partition %d: journals of %d calls are not on this disk; reading offsets %d to %d again",
        partition, len(missing), first, end - 1,
    )  # fmt: skip
    by_call: dict[tuple[str, str], list[_Missing]] = {}
    for journal in missing:
        by_call.setdefault((journal.identity.tenant, journal.identity.call_id), []).append(journal)
    call_ids = {call_id.encode() for _, call_id in by_call}
    buffered = 0
    for offset, record in read_log(OffsetRange(Topic.CALL_MEDIA, partition, first, end), call_ids, cancelled):
        for journal in by_call.get((record.tenant, record.call_id), ()):
            buffered += journal.add(record, offset)
        if buffered > _BUFFER_BYTES:
            _write_out(root, missing)
            buffered = 0
    _write_out(root, missing)


def _write_out(root: Path, missing: Iterable[_Missing]) -> None:
    for journal in missing:
        if journal.frames:
            write_frames(directory_of(root, journal.identity), journal.frames)
            journal.frames.clear()


def _do_without(root: Path, journal: _Missing) -> None:
    """The log does not have the part's last record any more. The part goes on with what there is; and if it was closed
    it must end with a close record, or it could never be recorded."""
    identity, part = journal.identity, journal.part
    log.error(
        "call %s part %d: neither this disk nor the log has the record at offset %d of partition %d any more; what is "
        "missing will be a gap. Raise call.media's retention",
        identity.call_id, identity.part, part.last_offset, identity.partition,
    )  # fmt: skip
    directory = directory_of(root, identity)
    frames = [encode_identity(identity)] if journal.held < 0 else []
    if part.closed:
        last = deque(read(directory / JOURNAL) if journal.held >= 0 else (), maxlen=1)
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
