"""Keys of objects in S3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.artifacts import recording_prefix, transcript_key


@given(st.tuples(st.text(min_size=1), st.text(min_size=1)), st.tuples(st.text(min_size=1), st.text(min_size=1)))
def test_two_calls_never_share_a_place(first: tuple[str, str], second: tuple[str, str]) -> None:
    """Whatever ids carriers and tenants think up (slashes, dots, percent signs), two calls get two prefixes and each
    is three clean segments deep. If not, one customer's recording could overwrite another's."""
    prefixes = {recording_prefix(tenant, call, 1) for tenant, call in (first, second)}
    assert len(prefixes) == len({first, second})
    for prefix in prefixes:
        segments = prefix.split("/")
        assert len(segments) == 4
        assert not {"", ".", ".."} & set(segments)


def test_ordinary_ids_stay_readable() -> None:
    """A Twilio call is found in the bucket by its own id."""
    assert recording_prefix("acme", "CA123", 1) == "acme/CA123/recording/1"


@pytest.mark.parametrize("name", ["é" * 256, "/" * 256, "x" * 256, "\U0001f600" * 256, "\ud800" * 256])
def test_long_ids_fit_into_a_key(name: str) -> None:
    """Makes keys of the longest ids that a carrier may send, in characters of up to twelve encoded bytes.

    Each segment must fit into a file name and the key into S3's limit, and ids that differ only at the end must have
    different keys. Otherwise the store refuses the recording, or two calls share it.
    """
    keys = [transcript_key(name, call, "x" * 36) for call in (name, name[:-1], name[:-1] + "y")]
    assert len(set(keys)) == 3
    for key in keys:
        assert len(key.encode()) <= 1024
        assert max(map(len, key.split("/"))) <= 255
    assert "~" not in transcript_key("acme~", "CA~", "x")
