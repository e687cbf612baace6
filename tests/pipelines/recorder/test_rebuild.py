"""A journal is completed from the log. The log is a list here; the real one is in test_app.py."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.recorder.journal import PartId, read
from pipelines.recorder.rebuild import complete
from pipelines.recorder.spool import JOURNAL, Spool
from schemas.media import MediaRecord, RecordType
from tests.pipelines.recorder.calls import call

PART = PartId("acme", "CA", 1, 3)
CALL = call("CA", 2000)
STALE = CALL.record(RecordType.CLOSE, stream_id="", seen=1, part=1)
RECORDED = CALL.record(RecordType.RECORDED, stream_id="", part=0)
FOREIGN = replace(CALL.records()[1], tenant="other")
RECORDS = CALL.records()
LOG = [*RECORDS[:4], STALE, RECORDED, FOREIGN, *RECORDS[4:], STALE]
MINE = [offset for offset, record in enumerate(LOG[:-1]) if record in RECORDS]


class Log:
    """Remembers what was read of it. lost: offsets below are not there any more."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.reads: list[tuple[int, str, int, int]] = []

    def read(self, partition: int, call_id: str, first: int, end: int) -> Iterator[tuple[int, MediaRecord]]:
        self.reads.append((partition, call_id, first, end))
        yield from ((offset, LOG[offset]) for offset in range(max(first, self.lost), min(end, len(LOG))))


def held(spool: Spool) -> list[tuple[int, MediaRecord]]:
    return [(entry.offset, entry.record) for entry in read(spool.write(PART) / JOURNAL)]


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_what_is_missing_is_read_and_nothing_else(tmp_path: Path, kept: int) -> None:
    """The disk has none, one or some of the records. Decisions that closed nothing and another tenant's call of the
    same id are not the part's; with them the bytes would not be the same."""
    spool, log = Spool(tmp_path), Log()
    for offset in MINE[:kept]:
        spool.append(PART, LOG[offset], offset)
    complete(spool, PART, first_offset=0, last_offset=MINE[-1], read=log.read)
    assert held(spool) == [(offset, LOG[offset]) for offset in MINE]
    assert log.reads == [(3, "CA", MINE[kept - 1] + 1 if kept else 0, MINE[-1] + 1)]


def test_a_closed_part_gets_its_close_back(tmp_path: Path) -> None:
    """Of all close records only the one that closed the part belongs to it."""
    spool = Spool(tmp_path)
    complete(spool, PART, first_offset=0, last_offset=len(LOG) - 1, read=Log().read)
    assert [offset for offset, _ in held(spool)] == [*MINE, len(LOG) - 1]


def test_a_complete_journal_costs_no_reading(tmp_path: Path) -> None:
    """It is asked at every record."""
    spool, log = Spool(tmp_path), Log()
    spool.append(PART, LOG[0], 0)
    complete(spool, PART, first_offset=0, last_offset=0, read=log.read)
    assert log.reads == []


def test_what_the_log_has_lost_too_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Retention took the audio. The call goes on with what there is, and an error says what is not."""
    spool = Spool(tmp_path)
    with caplog.at_level(logging.ERROR):
        complete(spool, PART, first_offset=0, last_offset=3, read=Log(lost=5).read)
    assert "any more" in caplog.text
