"""Journals are completed from the log. The log is a list here; the real one is in test_takeover.py."""

import logging
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.recorder import journal_rebuild
from pipelines.recorder.journal import PartId, read
from pipelines.recorder.journal_rebuild import rebuild_journals
from pipelines.recorder.recording import make_recording
from pipelines.recorder.spool import JOURNAL, Spool
from pipelines.recorder.state_machine import CallState, UnrecordedPart, transition, unrecorded
from redpanda.range_reader import OffsetRange
from schemas.media import MediaRecord, RecordType
from tests.support.media_records import call

CALL = call("CA", 2000)
RECORDS = CALL.records()
LATE = CALL.stream("MZ2", 9000).records()
RECORDED = CALL.record(RecordType.RECORDED, stream_id="", part=0)
FOREIGN = replace(RECORDS[1], tenant="other")
OTHER = call("CB", 1000, seed=5).records()


def close(part: int, seen: int) -> MediaRecord:
    return CALL.record(RecordType.CLOSE, stream_id="", seen=seen, part=part, detail="ended")


# CA: part 1, with a close that came too late among its audio; its close; a second part that is open. CB, interleaved.
FIRST = [*RECORDS[:4], close(1, 1), RECORDED, FOREIGN, OTHER[0], *RECORDS[4:]]
LOG = [*FIRST, OTHER[1], close(1, len(FIRST)), close(1, len(FIRST)), *LATE[:4], *OTHER[2:]]


class Log:
    """Remembers what was read of it. lost: offsets below are not there any more."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.reads: list[tuple[int, int | None]] = []

    def read(
        self, stretch: OffsetRange, call_ids: Collection[bytes], cancelled: threading.Event
    ) -> Iterator[tuple[int, MediaRecord]]:
        self.reads.append((stretch.first_offset, stretch.end_offset))
        for offset in range(max(stretch.first_offset, self.lost), min(stretch.end_offset or 0, len(LOG))):
            if not cancelled.is_set() and LOG[offset].call_id.encode() in call_ids:
                yield offset, LOG[offset]


def recorded_undisturbed(root: Path) -> dict[PartId, UnrecordedPart]:
    """Writes the journals as the recorder does, and returns the parts that need more work."""
    spool = Spool(root)
    states: dict[tuple[str, str], CallState] = {}
    for offset, record in enumerate(LOG):
        key = record.tenant, record.call_id
        states[key], decision = transition(states.get(key, CallState()), record, offset)
        if decision.action in ("append", "finish"):
            spool.append(PartId(*key, decision.part, 3), record, offset)
    spool.flush()
    return {PartId(*key, part.number, 3): part for key, state in states.items() for part in unrecorded(state)}


def same(one: Path, other: Path, parts: Collection[PartId]) -> bool:
    return all(
        (Spool(one).directory_of(part) / JOURNAL).read_bytes()
        == (Spool(other).directory_of(part) / JOURNAL).read_bytes()
        for part in parts
    )


@pytest.mark.parametrize("kept", [0, 300, 10_000, 10**9])
@pytest.mark.parametrize("buffer_bytes", [1, 10**6])
def test_what_is_missing_is_read_in_one_pass_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, buffer_bytes: int
) -> None:
    """Rebuilds journals of which the disk has nothing, a beginning (cut at any byte) or all.

    They must equal those of an undisturbed recorder to the byte: closed parts with their close, open parts, another
    tenant's call of the same id, without decisions that closed nothing.
    """
    monkeypatch.setattr(journal_rebuild, "_BUFFER_BYTES", buffer_bytes)
    parts = recorded_undisturbed(tmp_path / "undisturbed")
    assert len(parts) == 4
    damaged, log = tmp_path / "damaged", Log()
    for part in parts:
        content = (Spool(tmp_path / "undisturbed").directory_of(part) / JOURNAL).read_bytes()[:kept]
        directory = Spool(damaged).directory_of(part)
        directory.mkdir()
        (directory / JOURNAL).write_bytes(content)
    held = rebuild_journals(damaged, parts, {}, log.read, threading.Event())
    assert held == {identity: part.last_offset for identity, part in parts.items()}
    assert same(tmp_path / "undisturbed", damaged, parts)
    assert len(log.reads) == (0 if kept == 10**9 else 1)


def test_a_cancelled_rebuild_continues_later(tmp_path: Path) -> None:
    """Cancels a rebuild by revoking the partition, then assigns it again. No record may be written twice."""
    parts, cancelled = recorded_undisturbed(tmp_path / "undisturbed"), threading.Event()

    def read_half(stretch: OffsetRange, *rest: object) -> Iterator[tuple[int, MediaRecord]]:
        for offset, record in Log().read(stretch, {b"CA", b"CB"}, threading.Event()):
            if offset > len(LOG) // 2:
                cancelled.set()
                return
            yield offset, record

    root = Spool(tmp_path / "spool").root
    assert rebuild_journals(root, parts, {}, read_half, cancelled) == {}
    log = Log()
    rebuild_journals(root, parts, {}, log.read, threading.Event())
    assert same(tmp_path / "undisturbed", root, parts)
    assert log.reads[0][0] > 0


def test_records_that_the_log_lost_become_a_gap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lets retention delete the audio and the close record.

    An error must be logged. A closed part must get a close record, or it would be retried without end; an open part
    continues with new records.
    """
    parts = recorded_undisturbed(tmp_path / "undisturbed")
    closed = next(identity for identity, part in parts.items() if part.closed)
    open_ = PartId("acme", "CA", 2, 3)
    spool = Spool(tmp_path / "spool")
    with caplog.at_level(logging.ERROR):
        held = rebuild_journals(spool.root, parts, {}, Log(lost=len(LOG)).read, threading.Event())
    assert caplog.text.count("neither this disk nor the log") == len(parts)
    manifest = make_recording(closed, spool.directory_of(closed)).manifest
    assert (manifest.duration_ms, manifest.close_reason, manifest.close_offset) == (
        0,
        "idle",
        parts[closed].last_offset,
    )
    spool.set_known_offset(open_, held[open_])
    spool.append(open_, LATE[4], len(LOG))
    assert [entry.record for entry in read(spool.write(open_) / JOURNAL)] == [LATE[4]]
