"""Counts with their nouns."""

import pytest

from core.counting import number_of


@pytest.mark.parametrize(("count", "text"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls")])
def test_a_count_agrees_with_its_noun(count: int, text: str) -> None:
    """Writes counts with a regular noun, and with one whose plural is given."""
    assert number_of(count, "call") == text
    assert number_of(count, "stream is", "streams are").endswith("stream is" if count == 1 else "streams are")
