"""The journal: it returns exactly the records that were written completely."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.recorder.journal import PartId, Tail, encode_identity, encode_record, read, read_identity, recover
from tests.support.media_records import call

IDENTITY = PartId("acme", "CA/../ü", 2, 7)
RECORDS = call("CA/../ü", 1000).records()
FRAMES = [encode_identity(IDENTITY), *(encode_record(record, 10 + i) for i, record in enumerate(RECORDS))]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal") / "journal"


def test_records_come_back_as_they_were(path: Path) -> None:
    """Compares every field, the payload, the offset and the payload's position in the file."""
    path.write_bytes(b"".join(FRAMES))
    entries = list(read(path))
    assert [(entry.offset, entry.record) for entry in entries] == list(enumerate(RECORDS, 10))
    assert read_identity(path) == IDENTITY
    for entry in entries:
        content = path.read_bytes()[entry.position : entry.position + len(entry.record.payload)]
        assert content == entry.record.payload


@settings(deadline=None)
@given(st.data())
def test_a_torn_tail_is_cut_off(path: Path, data: st.DataObject) -> None:
    """The machine stops in the middle of a write: the file is cut at any byte, or its last bytes are rubbish.

    The whole records before stay, and what is appended afterwards is readable. A reader that trusted the length
    alone would hand out half a record, or lose all that follows.
    """
    content = b"".join(FRAMES)
    cut = data.draw(st.integers(0, len(content)))
    rubbish = data.draw(st.binary(max_size=40))
    whole = max((i for i in range(len(FRAMES) + 1) if len(b"".join(FRAMES[:i])) <= cut), default=0)
    path.write_bytes(content[:cut] + rubbish)
    if content.startswith(content[:cut] + rubbish):
        return  # the rubbish happens to be what was being written
    tail = recover(path)
    records = max(0, whole - 1)
    size = len(b"".join(FRAMES[:whole])) if records else 0
    assert tail == Tail(9 + records if records else -1, size)
    assert path.stat().st_size == size
    with path.open("ab") as file:
        file.write(b"".join(FRAMES[whole if records else 0 :]))
    assert [entry.record for entry in read(path)] == RECORDS


def test_no_file_is_an_empty_journal(tmp_path: Path) -> None:
    """Recovers a missing file. It must count as an empty journal."""
    assert recover(tmp_path / "journal") == Tail(-1, 0)


@pytest.mark.parametrize("whole", [0, 1, 3])
def test_zeros_are_not_records(tmp_path: Path, whole: int) -> None:
    """Reads zeros, which a power failure may leave. They look like an empty frame with a valid checksum.

    A reader that accepts them would stop the recorder at every start.
    """
    journal = tmp_path / "journal"
    journal.write_bytes(b"".join(FRAMES[:whole]) + bytes(100))
    assert read_identity(journal) == (IDENTITY if whole else None)
    assert [entry.record for entry in read(journal)] == RECORDS[: max(0, whole - 1)]
    assert recover(journal).last_offset == (9 + whole - 1 if whole > 1 else -1)
