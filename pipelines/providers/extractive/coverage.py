"""Chooses the texts that say most in a given number of words: each word of content counts once. Pure.

The same input gives the same choice. The measure needs no dictionary; English has lists of words that say little.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


def word_set(words: str) -> frozenset[str]:
    """Returns the words of a list that is written with spaces."""
    return frozenset(words.split())


# Scripts without spaces: each character is a word of its own.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:[.,:'@-][^\W_{_UNSPACED}]+)*")
_WHEN = word_set(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december today tonight tomorrow yesterday morning afternoon evening night noon "
    "weekend week weeks month months year years hour hours"
)
_NUMBER = word_set(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand "
    "dollars euros pounds cents percent"
)
_WEIGHTY = word_set(
    "down broken fault error failed fail missing lost late delayed delay wrong blocked cancel cancelled refund "
    "charge charged credit problem damaged damage stolen fraud complaint cannot won't hasn't haven't didn't "
    "couldn't nobody urgent allergic pain dizzy sick ill fever high low stuck slow leaking leak removed cracked "
    "crashed hurt accident arrived change changed move appointment reservation delivery insurance free"
)
_FIGURE, _DIGIT, _TIME, _CAPITAL, _HEAVY, _LIGHT, _LITTLE = 2.0, 1.2, 1.3, 1.4, 1.5, 0.25, 0.125
_OFTEN = 0.25  # how much a word gains each time that its number of uses grows by a factor of e
_FIGURES = 3  # numbers of a text that count in full
_COMMON_SHARE, _FEWEST_COMMON = 0.2, 3  # of the turns: words in more of them are everywhere
_ONCE = 0.4  # in a language without lists: a word that does not come again is seldom the topic
_AGAIN = 0.2  # share of its weight that a word has once it is in the summary
_SHORT_WORD = 3  # letters; in a language without a list such words are mostly articles and prepositions
_LEAST_RATE = 0.3  # weight that a text must add for each of its words
_PER_TEXT = 0.5  # words that a choice costs beside its own


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidate text.

    weights: weights of its words, by their stems. cost: its length. factor: weight of its kind. group: at most one text
    of a group is chosen.
    """

    weights: Mapping[str, float]
    cost: int
    kind: str
    group: int
    factor: float = 1.0


def tokens(text: str) -> list[str]:
    """Returns the words of a text, in lower case; a character of a script without spaces is a word."""
    return [match[0].lower().removesuffix("'s") for match in _TOKEN.finditer(text)]


def length(text: str) -> int:
    """Returns a text's length in words, as spaces separate them; in scripts without spaces, in characters."""
    unspaced = len(re.findall(rf"[{_UNSPACED}]", text))
    return len(text.split()) + max(unspaced - 1, 0)


def stem(word: str) -> str:
    """Returns the word without its most usual English endings."""
    for ending, shortest in (("ing", 6), ("ed", 5), ("es", 6), ("s", 4)):
        if word.endswith(ending) and len(word) >= shortest and not word.endswith("ss"):
            return word.removesuffix(ending).rstrip("e")
    return word.rstrip("e") if len(word) > _SHORT_WORD else word


def english_weights(
    texts: Sequence[str], nothing: Collection[str], little: Collection[str]
) -> Callable[[str], dict[str, float]]:
    """Returns a function that returns the weight of each word of a text, by its stem.

    texts: all texts of the call. nothing: words without weight. little: words with a small weight.
    """
    counts = Counter(word for text in texts for word in tokens(text))
    capitals = Counter(
        match[0].lower() for text in texts for match in _TOKEN.finditer(text) if match.start() and match[0][0].isupper()
    )

    def weight(word: str) -> float:
        if word in nothing:
            return 0.0
        if word in _WHEN or word in _NUMBER:
            return _TIME
        if word in little:
            return _LIGHT
        often = 1 + _OFTEN * math.log(max(counts[word], 1))
        return often * (_HEAVY if word in _WEIGHTY else _CAPITAL if capitals[word] * 2 > counts[word] else 1.0)

    return lambda text: _weighed(text, weight)


def foreign_weights(texts: Sequence[str]) -> Callable[[str], dict[str, float]]:
    """Returns the same function for a language without word lists.

    Short words and very common words have a small weight. Repeated words have a large weight: they name the subject.
    """
    said = [tokens(text) for text in texts]
    counts = Counter(word for words in said for word in words)
    spread = Counter(word for words in said for word in set(words))
    common = max(_FEWEST_COMMON, _COMMON_SHARE * len(texts))

    def weight(word: str) -> float:
        if (len(word) <= _SHORT_WORD and word[0].isascii()) or spread[word] > common:
            return _LITTLE
        return 1 + _OFTEN * math.log(counts[word]) if counts[word] > 1 else _ONCE

    return lambda text: _weighed(text, weight)


def _weighed(text: str, weight: Callable[[str], float]) -> dict[str, float]:
    words = tokens(text)
    figures = [word for word in words if any(char.isdigit() for char in word)]
    # A number in several pieces is one piece of information.
    weight_of_figure = dict.fromkeys(figures[_FIGURES:], _LIGHT) | {
        word: _FIGURE if len(word) > 1 else _DIGIT for word in figures[:_FIGURES]
    }
    return {stem(word): weight_of_figure.get(word) or weight(word) for word in words}


def choose(choices: Sequence[Choice], budget: int, most: Mapping[str, int], covered: Iterable[str] = ()) -> list[int]:
    """Returns the indexes of the chosen texts, in order.

    budget: limit of the sum of their costs. most: limit per kind. covered: stems of words that the reader knows.
    """
    known = set(covered)
    left = dict(most)
    groups: set[int] = set()
    chosen: list[int] = []
    # The value of a text never rises when other texts are chosen. So old rates are upper limits: a text that is still
    # first after its rate is computed again is the best one.
    waiting = [(-_rate(choice, known), index, 0) for index, choice in enumerate(choices)]
    heapify(waiting)
    while waiting:
        rate, index, rated_after = heappop(waiting)
        choice = choices[index]
        if choice.cost > budget or choice.group in groups or left.get(choice.kind, 0) <= 0:
            continue
        if rated_after < len(chosen):
            heappush(waiting, (-_rate(choice, known), index, len(chosen)))
            continue
        if -rate < _LEAST_RATE:
            break
        chosen.append(index)
        known.update(choice.weights)
        groups.add(choice.group)
        left[choice.kind] -= 1
        budget -= choice.cost
    return sorted(chosen)


def _rate(choice: Choice, known: Collection[str]) -> float:
    """Returns what a text adds for each of its words."""
    gain = sum(weight * (_AGAIN if word in known else 1.0) for word, weight in choice.weights.items())
    # Rounded, or the last bit of a machine's arithmetic would decide between equals.
    return round(choice.factor * gain / (choice.cost + _PER_TEXT), 9)
