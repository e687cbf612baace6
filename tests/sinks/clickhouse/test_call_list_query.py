"""Cursors of the list of calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.clickhouse.call_list_query import InvalidCursorError, Position, decode_cursor, encode_cursor


@given(st.builds(Position, st.integers(0, 2**43), st.text(), st.text()))
def test_a_cursor_leads_back_to_its_position(at: Position) -> None:
    """Whatever tenants and call ids look like, the cursor of a position yields it, and needs no escaping in a URL."""
    cursor = encode_cursor(at)

    assert decode_cursor(cursor) == at
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("cursor", ["x", "!!", "bnVsbA", "W10", "WzEsMiwzXQ", "é", "WzEsIiJd", "e30"])
def test_a_cursor_somebody_made_up_is_refused(cursor: str) -> None:
    """Anything that no list gave out is an error of the asker's, not a crash: among these are JSON's null, an empty
    list, a list of numbers and an object."""
    with pytest.raises(InvalidCursorError):
        decode_cursor(cursor)
