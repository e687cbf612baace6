"""The binary record of `call.media`: what goes in comes out, and nothing else gets in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.media import Codec, MediaError, MediaRecord, RecordType, from_headers, to_headers

_text = st.text(max_size=20)
_number = st.integers(0, 2**53)

records = st.builds(
    MediaRecord,
    type=st.sampled_from(RecordType),
    call_id=_text,
    tenant=_text,
    carrier=_text,
    stream_id=_text,
    at_ms=_number,
    track=st.sampled_from(["", "inbound", "outbound"]),
    codec=st.sampled_from(Codec),
    rate_hz=st.sampled_from([8000, 16000, 24000]),
    seq=_number,
    ts_ms=_number,
    frames=_number,
    duration_ms=_number,
    detail=_text,
    seen=st.integers(-1, 2**53),
    part=_number,
    payload=st.binary(max_size=400),
)


@given(records)
def test_a_record_survives_the_log(record: MediaRecord) -> None:
    """Any record, turned into key, headers and value and back, is the same record.

    If not, the recorder would place audio elsewhere than the gateway meant it to be.
    """
    assert from_headers(record.call_id.encode(), to_headers(record), record.payload) == record


@given(records)
def test_headers_of_a_newer_gateway_are_passed_over(record: MediaRecord) -> None:
    """A record with a header nobody here knows is read all the same, so that a gateway can be upgraded first."""
    headers = [*to_headers(record), ("from-the-future", b"\xff\x00")]
    assert from_headers(record.call_id, headers, record.payload) == record


@given(st.lists(st.tuples(st.sampled_from(["type", "codec", "tenant", "at", "seq", "x"]), st.binary(max_size=8))))
def test_anything_else_is_refused_with_a_reason(headers: list[tuple[str, bytes]]) -> None:
    """Headers that are not ours raise MediaError and nothing else: the recorder skips such a record by that error
    and would crash for ever on any other."""
    with pytest.raises(MediaError):
        from_headers("CA1", headers, b"")


def test_the_reason_names_the_header() -> None:
    """An operator reads which header is wrong."""
    with pytest.raises(MediaError, match="'tenant' is missing"):
        from_headers("CA1", [], b"")
