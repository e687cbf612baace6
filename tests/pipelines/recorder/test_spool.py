"""The spool: it keeps flushed records once, and reports when it cannot."""

import os
import shutil
from pathlib import Path

import pytest

from pipelines.recorder import spool as spool_module
from pipelines.recorder.journal import PartId, encode_record, read
from pipelines.recorder.spool import JOURNAL, Spool, SpoolError, lock_root
from schemas.media import RecordType
from tests.support.media_records import call

CALL = call("CA", 2000)
RECORDS = CALL.records()
PART = PartId("acme", "CA", 1, 0)


def held(spool: Spool, part: PartId = PART) -> list[int]:
    return [entry.offset for entry in read(spool.directory_of(part) / JOURNAL)]


def test_flushed_is_on_disk_and_a_redelivery_is_skipped(tmp_path: Path) -> None:
    """Flushes records, kills the process with one more in memory, and delivers two again."""
    spool = Spool(tmp_path)
    for offset in (3, 5):
        assert spool.append(PART, RECORDS[0], offset)
    spool.flush()
    spool.append(PART, RECORDS[1], 6)

    again = Spool(tmp_path)
    assert again.last_offset(PART) == 5
    assert not again.append(PART, RECORDS[0], 5)
    assert again.append(PART, RECORDS[1], 6)
    again.flush()
    assert held(again) == [3, 5, 6]


def test_write_makes_it_readable_before_the_flush(tmp_path: Path) -> None:
    """Reads a closed part at once. The next checkpoint must still sync it."""
    spool = Spool(tmp_path)
    spool.append(PART, RECORDS[0], 0)
    assert spool.write(PART) == spool.directory_of(PART)
    assert held(spool) == [0]
    spool.flush()
    assert held(spool) == [0]


def test_parts_are_found_again_and_released_ones_are_gone(tmp_path: Path) -> None:
    """Finds parts of several tenants, whose call ids have any characters. Skips a directory without a journal."""
    nasty = PartId("acme", "../../etc/passwd\n" + "x" * 300, 1, 1)
    parts = {PART, nasty, PartId("acme", "CA", 2, 0), PartId("other", "CA", 1, 0)}
    spool = Spool(tmp_path)
    for part in parts:
        spool.append(part, RECORDS[0], 1)
    spool.flush()
    (tmp_path / "lost+found").mkdir()
    assert set(Spool(tmp_path).parts()) == parts

    spool.release(PART)
    assert set(spool.parts()) == parts
    spool.flush()
    assert set(spool.parts()) == parts - {PART}
    assert spool.last_offset(PART) == -1


def test_a_full_disk_is_an_error_and_nothing_is_skipped_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fills the disk in the middle of a write.

    Nothing may be committed. If the same process gets the records again, it must not assume that it has them.
    """
    spool = Spool(tmp_path)
    spool.append(PART, RECORDS[0], 0)
    spool.flush()
    spool.append(PART, RECORDS[1], 1)

    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "_fsync", full)
        with pytest.raises(SpoolError, match=r"Free space there"):
            spool.flush()
    journal = spool.directory_of(PART) / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-10])
    assert spool.last_offset(PART) == 0
    assert spool.append(PART, RECORDS[1], 1)
    spool.flush()
    assert held(spool) == [0, 1]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Puts a file in place of the directory. The error must be one sentence that names the setting."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolError, match="AUDIOTEXT_DATA_DIR"):
        Spool(tmp_path / "spool")


def test_a_spool_belongs_to_one_process(tmp_path: Path) -> None:
    """Starts a second recorder in the same directory. It must be rejected: two writers would corrupt the journals."""
    held = lock_root(tmp_path)
    with pytest.raises(SpoolError, match="its own AUDIOTEXT_DATA_DIR"):
        lock_root(tmp_path)
    os.close(held)
    os.close(lock_root(tmp_path))


def test_a_journal_deleted_during_a_call_is_an_error(tmp_path: Path) -> None:
    """Deletes the journal of an open call, as an operator may do on a full disk.

    Nothing may be committed then: the file would begin in the middle of the call. The next start rebuilds the journal
    from the log.
    """
    spool = Spool(tmp_path)
    spool.append(PART, RECORDS[0], 0)
    spool.flush()
    shutil.rmtree(spool.directory_of(PART))
    spool.append(PART, RECORDS[1], 1)
    with pytest.raises(SpoolError, match="deleted"):
        spool.flush()
    assert Spool(tmp_path).last_offset(PART) == -1


def test_a_journal_without_identity_is_empty(tmp_path: Path) -> None:
    """Reads a journal that begins with a record.

    It must count as empty, so that it is rebuilt and the recorder starts.
    """
    spool = Spool(tmp_path)
    path = spool.directory_of(PART) / JOURNAL
    path.parent.mkdir()
    path.write_bytes(encode_record(RECORDS[0], 7) + encode_record(RECORDS[1], 8))
    assert list(spool.parts()) == []
    assert spool.last_offset(PART) == -1
    assert path.stat().st_size == 0


def test_open_parts_are_deleted_and_closed_ones_wait_for_their_recording(tmp_path: Path) -> None:
    """Deletes open parts after the log lost its end.

    The journal of an open part cannot be trusted. A closed part does not need the log, and may be the only copy.
    """
    closed = PartId("acme", "CA", 2, 0)
    spool = Spool(tmp_path)
    for part in (PART, closed):
        spool.append(part, RECORDS[0], 0)
    spool.append(closed, CALL.record(RecordType.CLOSE, part=2), 1)
    spool.flush()
    spool.delete_open()
    assert list(spool.parts()) == [closed]
    assert held(spool, closed) == [0, 1]
