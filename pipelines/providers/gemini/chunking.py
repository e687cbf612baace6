"""A call in stretches that fit a prompt. Pure.

No tokenizer of Gemini's is at hand, so tokens are estimated, generously: three bytes of UTF-8 make one. English has
more than four, Chinese and Japanese about three.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pipelines.text.sentences import split_sentences

T = TypeVar("T")

_BYTES_PER_TOKEN = 3


def tokens_of(text: str) -> int:
    """An estimate that is rather too large."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def stretches(turns: Sequence[Mapping[str, str]], budget: int) -> list[list[Mapping[str, str]]]:
    """The turns in as few stretches as fit the budget (tokens), in order. A turn that is longer than a whole stretch is
    split at its sentences, or anywhere if need be."""
    pieces = [piece for turn in turns for piece in _pieces(turn, budget)]
    return packed(pieces, budget, _tokens_of_turn)


def packed(items: Sequence[T], budget: int, size: Callable[[T], int], at_least: int = 1) -> list[list[T]]:
    """The items in order, in groups of at most the budget, or of `at_least` items where those are larger."""
    groups: list[list[T]] = []
    room = 0
    for item in items:
        needed = size(item)
        if not groups or (needed > room and len(groups[-1]) >= at_least):
            groups.append([])
            room = budget
        groups[-1].append(item)
        room -= needed
    return groups


def _tokens_of_turn(turn: Mapping[str, str]) -> int:
    return tokens_of(json.dumps(turn, ensure_ascii=False)) + 1


def _pieces(turn: Mapping[str, str], budget: int) -> list[Mapping[str, str]]:
    if _tokens_of_turn(turn) <= budget:
        return [turn]
    room = max(budget - _tokens_of_turn({**turn, "text": ""}), 1)
    # Escapes in JSON can double a text (quotes, backslashes): counted as they are sent.
    parts = [part for sentence in split_sentences(turn["text"]) for part in _broken(sentence, room)]
    joined = packed(parts, room, lambda part: _quoted(part) + 1)
    return [{**turn, "text": " ".join(group)} for group in joined]


def _broken(sentence: str, room: int) -> list[str]:
    if _quoted(sentence) <= room or len(sentence) < 2:
        return [sentence]
    middle = len(sentence) // 2
    cut = sentence.rfind(" ", 1, middle) if " " in sentence[1:middle] else middle
    return [part for half in (sentence[:cut], sentence[cut:].lstrip()) for part in _broken(half, room)]


def _quoted(text: str) -> int:
    return tokens_of(json.dumps(text, ensure_ascii=False))
