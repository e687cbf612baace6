"""Keys of objects in S3."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.artifacts import recording_prefix


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
