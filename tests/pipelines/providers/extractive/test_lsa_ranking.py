"""Scoring sentences."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.providers.extractive.lsa_ranking import most_salient

TALK = [
    "Good morning.",
    "The router has been flashing red since the storm broke the street cabinet.",
    "Okay.",
    "An engineer will repair the street cabinet on Thursday morning after the storm.",
    "Bye.",
]


def test_substance_before_small_talk() -> None:
    """Two sentences share the call's topic, three are small talk: the two are chosen, in the order they were said."""
    assert most_salient(TALK, 2) == [1, 3]


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=25), st.integers(0, 10))
def test_any_text_gives_so_many_in_order(sentences: list[str], count: int) -> None:
    """Whatever the text, also empty or without a letter: as many as asked for (or all), each once, in order, and the
    same when asked again."""
    chosen = most_salient(sentences, count)

    assert len(chosen) == min(count, len(sentences))
    assert chosen == sorted(set(chosen))
    assert most_salient(sentences, count) == chosen
