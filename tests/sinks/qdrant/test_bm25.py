"""Words as sparse vectors. Pure."""

import pytest

from sinks.qdrant.bm25 import document_terms, query_terms, share_word


def _score(query: str, document: str) -> float:
    """As a store would, every term as rare as the others."""
    weights = dict(zip(document_terms(document).indices, document_terms(document).values, strict=True))
    asked = query_terms(query)
    return sum(weights.get(index, 0) * value for index, value in zip(asked.indices, asked.values, strict=True))


def test_the_same_word_is_the_same_term_for_ever() -> None:
    """Vectors lie in a store for years: a hash that changed with the process or the version would find nothing."""
    assert query_terms("Order order ORDER").indices == [2437346251]
    assert query_terms("\uff2f\uff32\uff24\uff25\uff32").indices == query_terms("order").indices  # full-width letters


def test_saying_it_more_often_counts_a_little_and_a_long_turn_counts_less() -> None:
    """BM25's two corrections; without them a long chatter would be above the one sentence that is meant."""
    once, twice = _score("refund", "a refund please"), _score("refund", "a refund, a refund please")
    assert once < twice < 2 * once
    assert _score("refund", "a refund please" + " and so on" * 20) < once


def test_texts_without_words_and_without_spaces() -> None:
    """No word is an empty vector, not an error; Chinese is found by its characters, since it has no spaces."""
    assert document_terms("... ?!").indices == []
    assert _score("退款", "我想退款") > 0
    assert _score("Straße", "in der STRASSE") > 0


@pytest.mark.parametrize(
    ("query", "text", "shared"),
    [
        ("what did Whitfield say", "The name is Daniel Whitfield.", True),
        ("order 4711", "It is number 4711, I think", True),
        ("extension 7", "I'm on extension seven", True),
        ("my dog ate the homework", "Thanks for the order, and is my router on?", False),
        ("wo ist der Hund", "der Zug ist da, wo er war", False),
        ("wo ist der Hund", "der Hund bellt", True),
        ("退款", "我想退款", True),
        ("款退", "我想退款", False),
        ("???", "What?", False),
    ],
)
def test_a_word_that_carries_meaning_is_shared(query: str, text: str, shared: bool) -> None:
    """Names, numbers and nouns are words to find a turn by; "the" and "my" are not. If this fails, a search for
    something that nobody said finds every turn, or a name is not found."""
    assert share_word(query, text) is shared
