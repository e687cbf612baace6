"""Splits a call into parts that fit a prompt. Pure.

Gemini's tokenizer is not available offline, so the number of tokens is an upper estimate: one token per three bytes of
UTF-8. English has more than four bytes per token, Chinese and Japanese about three.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pipelines.text.sentences import split_sentences

T = TypeVar("T")

_BYTES_PER_TOKEN = 3


def max_tokens_of(text: str) -> int:
    """Returns an upper estimate of the number of tokens."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def chunk_turns(turns: Sequence[Mapping[str, str]], budget: int) -> list[list[Mapping[str, str]]]:
    """Groups the turns, in order, into as few parts as the budget (tokens) allows.

    A turn that is longer than the budget is split at its sentences, or inside a sentence that is too long.
    """
    parts = [part for turn in turns for part in _split_turn(turn, budget)]
    return group_by_budget(parts, budget, _tokens_of_turn)


def group_by_budget(items: Sequence[T], budget: int, size: Callable[[T], int], at_least: int = 1) -> list[list[T]]:
    """Groups the items in order. A group is at most as large as the budget, or has `at_least` items."""
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
    return max_tokens_of(json.dumps(turn, ensure_ascii=False)) + 1


def _split_turn(turn: Mapping[str, str], budget: int) -> list[Mapping[str, str]]:
    if _tokens_of_turn(turn) <= budget:
        return [turn]
    room = max(budget - _tokens_of_turn({**turn, "text": ""}), 1)
    # JSON escapes (quotes, backslashes) can double the length of a text, so the JSON is counted.
    parts = [part for sentence in split_sentences(turn["text"]) for part in _split_sentence(sentence, room)]
    joined = group_by_budget(parts, room, lambda part: _json_tokens(part) + 1)
    return [{**turn, "text": " ".join(group)} for group in joined]


def _split_sentence(sentence: str, room: int) -> list[str]:
    if _json_tokens(sentence) <= room or len(sentence) < 2:
        return [sentence]
    middle = len(sentence) // 2
    cut = sentence.rfind(" ", 1, middle) if " " in sentence[1:middle] else middle
    return [part for half in (sentence[:cut], sentence[cut:].lstrip()) for part in _split_sentence(half, room)]


def _json_tokens(text: str) -> int:
    return max_tokens_of(json.dumps(text, ensure_ascii=False))
