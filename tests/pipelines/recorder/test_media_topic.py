"""What the recorder takes from the log for a record, and what it passes over."""

from dataclasses import replace

import pytest

from pipelines.recorder.journal import encode_record
from pipelines.recorder.media_topic import parse
from schemas.media import MediaError, RecordType, to_headers
from tests.pipelines.recorder.calls import call

RECORD = call("CA1", 100).records()[0]


def test_a_header_no_journal_has_room_for() -> None:
    """Reads a record with a header of 65,535 bytes, which the journal takes, and one with a byte more: that is passed
    over with its reason. Taken for a record it would stop the recorder, at this place of the log, at every start."""
    fits, too_long = (replace(RECORD, type=RecordType.MARK, detail="x" * size) for size in (65_535, 65_536))
    assert encode_record(parse(b"CA1", to_headers(fits), b""), 1)

    with pytest.raises(MediaError, match="65535 bytes"):
        parse(b"CA1", to_headers(too_long), b"")


def test_a_record_without_a_key() -> None:
    """Nobody could say whose audio it is."""
    with pytest.raises(MediaError, match="no key"):
        parse(None, to_headers(RECORD), RECORD.payload)
