"""The splitter of sentences."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.text.sentences import sentence_spans, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("   ", []),
        ("Hello", ["Hello"]),
        ("Sure. It's 447-291-0. Thanks!", ["Sure.", "It's 447-291-0.", "Thanks!"]),
        ("At 9.30 on Friday? Great.", ["At 9.30 on Friday?", "Great."]),
        ("I can see Dr. Chen is free. Good.", ["I can see Dr. Chen is free.", "Good."]),
        ("It's olivia.parker@example.com.", ["It's olivia.parker@example.com."]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("Well... maybe.", ["Well...", "maybe."]),
        ("Bis zum 21. März. Danach nicht.", ["Bis zum 21. März.", "Danach nicht."]),
        ("Le 2. jour à 8. Merci.", ["Le 2. jour à 8.", "Merci."]),
        ("金曜日は空いていますか。はい。", ["金曜日は空いていますか。", "はい。"]),
    ],
)
def test_examples(text: str, sentences: list[str]) -> None:
    """Splits text with numbers, times, titles, addresses and quotations, whose full stops end no sentence.

    A wrong cut would give summaries of half sentences.
    """
    assert split_sentences(text) == sentences


@given(st.text(alphabet=st.sampled_from("ab. !?。)\"'\n"), max_size=80))
def test_nothing_is_lost(text: str) -> None:
    """Splits any text. The spans must be in order, without overlap, and leave out only white space."""
    spans = sentence_spans(text)

    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())
    assert all(end <= following for (_, end), (following, _) in pairwise(spans))
    assert all(sentence and sentence == sentence.strip() for sentence in split_sentences(text))
