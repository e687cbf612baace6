"""The records that the recorder accepts from the log, and those that it skips."""

from dataclasses import replace

import pytest

from pipelines.recorder.journal import encode_record
from pipelines.recorder.media_topic import parse
from schemas.media import MediaError, RecordType, to_headers
from tests.support.media_records import call

RECORD = call("CA1", 100).records()[0]


def test_a_header_that_is_too_long_for_a_journal() -> None:
    """Reads a record with a header of 65,535 bytes, which fits the journal, and one with a byte more.

    The second must be skipped with its reason. Otherwise it would stop the recorder at this offset at every start.
    """
    fits, too_long = (replace(RECORD, type=RecordType.MARK, detail="x" * size) for size in (65_535, 65_536))
    assert encode_record(parse(b"CA1", to_headers(fits), b""), 1)

    with pytest.raises(MediaError, match="65535 bytes"):
        parse(b"CA1", to_headers(too_long), b"")


def test_a_record_without_a_key() -> None:
    """Reads a record without a key. It must be rejected, because its call is unknown."""
    with pytest.raises(MediaError, match="no key"):
        parse(None, to_headers(RECORD), RECORD.payload)
