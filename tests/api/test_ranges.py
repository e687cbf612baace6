"""Range and condition headers: every decision by example, and by hypothesis that no answer leaves the file."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.ranges import ByteRange, UnsatisfiableRangeError, etag_matches, range_applies, requested_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", ByteRange(0, 0)),
        ("bytes=0-", ByteRange(0, 99)),
        ("bytes=10-19", ByteRange(10, 19)),
        ("bytes=90-1000", ByteRange(90, 99)),
        ("bytes=-10", ByteRange(90, 99)),
        ("bytes=-1000", ByteRange(0, 99)),
        ("Bytes=5-6", ByteRange(5, 6)),
        ("bytes=0-1,5-6", None),
        ("bytes=6-5", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
        ("frames=0-1", None),
        ("bytes=0-" + "9" * 5000, None),
        ("", None),
    ],
)
def test_what_is_asked_for(header: str | None, expected: ByteRange | None) -> None:
    """Reads each kind of header against 100 bytes. If it failed, a player would seek to the wrong place, or a header
    that the RFC says to ignore would be refused."""
    assert requested_range(header, 100) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_ranges_outside_are_refused(header: str, size: int) -> None:
    """Asks for nothing that exists. If it failed, an empty 206 would be sent, which no client understands."""
    with pytest.raises(UnsatisfiableRangeError):
        requested_range(header, size)


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(alphabet="bytes=0123456789-, ", max_size=30), st.integers(0, 10_000))
def test_never_beyond_the_file(header: str, size: int) -> None:
    """Throws anything that looks like a range at it. If it failed, more bytes would be announced than there are."""
    try:
        wanted = requested_range(header, size)
    except UnsatisfiableRangeError:
        return
    if wanted is not None:
        assert 0 <= wanted.first <= wanted.last < size
        assert wanted.length >= 1


def test_conditions() -> None:
    """If-None-Match takes lists, weak tags and *; If-Range only the very tag. If it failed, a client would keep an
    old recording or glue pieces of two together."""
    assert etag_matches('"a", W/"b"', '"b"')
    assert etag_matches("*", '"b"')
    assert not etag_matches('"a"', '"b"')
    assert not etag_matches(None, '"b"')
    assert range_applies(None, '"b"')
    assert range_applies('"b"', '"b"')
    assert not range_applies('W/"b"', '"b"')
    assert not range_applies("Sun, 22 Nov 2026 10:00:00 GMT", '"b"')
