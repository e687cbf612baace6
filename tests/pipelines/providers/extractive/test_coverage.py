"""Choosing texts."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.providers.extractive.coverage import (
    Choice,
    choose,
    english_weights,
    foreign_weights,
    length,
    stem,
    tokens,
)

KINDS = {"point": 3}


def choices(*texts: str) -> list[Choice]:
    """Returns choices whose words all weigh the same."""
    return [Choice(dict.fromkeys(tokens(text), 1.0), length(text), "point", group) for group, text in enumerate(texts)]


def test_what_is_said_twice_is_chosen_once() -> None:
    """Two texts say the same, a third says something else: with room for two, the third is one of them."""
    assert choose(choices("router broken", "broken router", "parcel late"), 4, KINDS) == [0, 2]


def test_what_the_reader_knows_is_not_chosen() -> None:
    """A text whose words are known adds nothing."""
    assert choose(choices("router broken", "parcel late"), 2, KINDS, {"router", "broken"}) == [1]


def test_one_of_a_group() -> None:
    """Of two wordings of a statement one is chosen, even if both fit."""
    both = [Choice({"a": 1.0, "b": 1.0}, 2, "point", 7), Choice({"c": 1.0}, 1, "point", 7)]

    assert choose(both, 10, KINDS) == [0] or choose(both, 10, KINDS) == [1]


@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from("abcdefgh"), max_size=4), st.integers(1, 5), st.sampled_from(["point", "action"])
        ),
        max_size=12,
    ),
    st.integers(0, 20),
)
def test_limits_hold(made: list[tuple[set[str], int, str]], budget: int) -> None:
    """Whatever the texts: the costs stay within the budget, the number of each kind within its limit, each text is
    chosen once, in order, and again the same."""
    given_choices = [
        Choice(dict.fromkeys(sorted(said), 1.0), cost, kind, index) for index, (said, cost, kind) in enumerate(made)
    ]
    most = {"point": 2, "action": 1}
    chosen = choose(given_choices, budget, most)

    assert sum(given_choices[index].cost for index in chosen) <= budget
    assert all(sum(given_choices[index].kind == kind for index in chosen) <= count for kind, count in most.items())
    assert chosen == sorted(set(chosen)) == choose(given_choices, budget, most)


def test_english_weights() -> None:
    """A number and a day say more than a noun, a noun more than "get", and "the" says nothing."""
    weigh = english_weights(["get the lamp on Monday at 12.30"], {"the", "on", "at"}, {"get"})
    weights = weigh("the get lamp monday 12.30")

    assert weights["the"] == 0
    assert weights["get"] < weights["lamp"] < weights["monday"] < weights["12.30"]


def test_weights_without_lists() -> None:
    """In any other language a word that comes again says more than one that does not, and a short one says little."""
    weigh = foreign_weights(["Das Paket ist weg", "Ein Paket kommt", "Das Wetter"])
    weights = weigh("das paket wetter")

    assert weights["das"] < weights["wetter"] < weights["paket"]


def test_length_and_stems() -> None:
    """Words are counted as spaces separate them, in Japanese characters; endings of a word do not make another word."""
    assert length("two words") == 2
    assert length("\u4e88\u7d04\u3092") == 3
    assert {stem("refunds"), stem("refunded"), stem("refunding")} == {"refund"}
