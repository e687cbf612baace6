"""Summaries without a language model: clauses that were said, chosen and lightly rewritten.

Fillers and courtesies are removed, "I" and "you" become the speakers' names, a short answer gets the topic of its
question. Nothing is added, so the summary says nothing that the call does not say. Sentences that are not English are
chosen and perhaps shortened, but not rewritten.
"""

import asyncio
from collections.abc import Mapping, Sequence

from core.health_check import Check
from pipelines.providers.base import NOTHING_SAID, SummaryJob
from pipelines.providers.extractive.coverage import (
    Choice,
    choose,
    english_weights,
    foreign_weights,
    length,
    stem,
    tokens,
)
from pipelines.providers.extractive.english import LIGHT_WORDS, STOP_WORDS
from pipelines.providers.extractive.parties import LABELS, Parties, parties_of
from pipelines.providers.extractive.statements import Statement, Turn, as_sentence, statements_of, turns_of
from schemas.artifacts import Summary, Transcript
from schemas.events import ActionItem

_SHARE = 4  # the summary has at most a quarter of the call's words,
_SHORT_CALL = 37  # but may have so many in a short call
_MOST_IN_ABSTRACT, _MOST_POINTS, _MOST_ACTIONS = 3, 10, 10
_ABSTRACT_SHARE = 0.45  # of the words that are not action items
_POINT, _ACTION = "point", "action"
_MOST_WORDS_UNCHOSEN = 20

# Raised when the same transcript would get another summary, so that its key changes.
_REVISION = 3


class Extractive:
    """Summaries by choosing clauses."""

    name = "extractive"
    model = "coverage"

    def config(self) -> Mapping[str, object]:
        """Returns the method and its revision."""
        return {"provider": self.name, "model": self.model, "revision": _REVISION}

    async def summarize(self, job: SummaryJob) -> Summary:
        """Returns the call's summary. Works in a thread, since a call of several hours takes a second."""
        return await asyncio.to_thread(self.summary_of, job.transcript)

    async def check(self) -> Check:
        """Reports that it needs nothing but itself."""
        return Check("Extractive", True, "made here, nothing to reach")

    def summary_of(self, transcript: Transcript) -> Summary:
        """Returns the transcript's summary."""
        turns = turns_of(transcript)
        parties = parties_of([(turn.speaker, turn.text) for turn in turns if turn.english])
        opening = _opening(turns, parties)
        spoken = sum(length(turn.text) for turn in turns)
        budget = max(spoken // _SHARE, _SHORT_CALL) - length(opening)
        chosen = _chosen(turns, statements_of(turns, parties), budget, opening)
        abstract, points = _laid_out(opening, [one for one in chosen if not one.owner])
        actions = [ActionItem(text=one.text, owner=one.owner) for one in chosen if one.owner]
        return Summary(
            call_id=transcript.call_id,
            provider=self.name,
            model=self.model,
            abstract=abstract or _unchosen(turns, bool(actions)),
            key_points=points,
            action_items=[one.line for one in chosen if one.owner],
            actions=actions,
        )


def _opening(turns: Sequence[Turn], parties: Parties) -> str:
    """Returns the sentence that names two speakers, the customer first; "" if neither gives a name."""
    roles = list(LABELS)
    speakers = sorted(
        dict.fromkeys(turn.speaker for turn in turns),
        key=lambda speaker: roles.index(speaker) if speaker in roles else len(roles),
    )
    if len(speakers) != 2 or not parties.names:
        return ""
    first, second = (parties.full(speaker) for speaker in speakers)
    firm = f" ({parties.firm})" if parties.firm else ""
    return as_sentence(f"{first} spoke with {second}{firm}")


def _chosen(turns: Sequence[Turn], statements: Sequence[Statement], budget: int, opening: str) -> list[Statement]:
    """Returns the statements of the summary, in the order of the call."""
    english = english_weights([turn.text for turn in turns if turn.english], STOP_WORDS, LIGHT_WORDS)
    foreign = foreign_weights([turn.text for turn in turns if not turn.english])
    choices = [
        Choice(
            weights=(english if one.english else foreign)(one.line),
            cost=length(one.line),
            kind=_ACTION if one.owner else _POINT,
            group=one.group,
            factor=one.factor,
        )
        for one in statements
    ]
    most = {_POINT: _MOST_POINTS + _MOST_IN_ABSTRACT, _ACTION: _MOST_ACTIONS}
    known = {stem(word) for word in tokens(opening)}
    chosen = choose(choices, budget, most, known)
    return [statements[index] for index in _completed(chosen, choices, budget)]


def _completed(chosen: Sequence[int], choices: Sequence[Choice], budget: int) -> list[int]:
    """Replaces shortened statements by the complete statement of their group while the budget allows it."""
    firsts: dict[int, int] = {}
    for index, choice in enumerate(choices):
        firsts.setdefault(choice.group, index)
    room = budget - sum(choices[index].cost for index in chosen)
    completed = []
    for index in chosen:
        first = firsts[choices[index].group]
        more = choices[first].cost - choices[index].cost
        completed.append(first if more <= room else index)
        room -= more if more <= room else 0
    return completed


def _laid_out(opening: str, points: Sequence[Statement]) -> tuple[str, list[str]]:
    """Returns the abstract (the speakers, the reason for the call, what came of it) and the key points."""
    room = _ABSTRACT_SHARE * (length(opening) + sum(length(one.text) for one in points)) - length(opening)
    leading: list[Statement] = []
    for one in sorted(points, key=lambda one: (not one.reason, not one.outcome)):
        if len(leading) < _MOST_IN_ABSTRACT and (not leading or length(one.text) <= room):
            leading.append(one)
            room -= length(one.text)
    lines = [opening] if opening else []
    speaker = ""
    for one in points:
        if one in leading:
            lines.append(as_sentence(one.text.removeprefix(f"{one.label}: ") if one.speaker == speaker else one.text))
            speaker = one.speaker
    return " ".join(lines), [as_sentence(one.text) for one in points if one not in leading][:_MOST_POINTS]


def _unchosen(turns: Sequence[Turn], actions: bool) -> str:
    """Returns the abstract of a call with nothing to choose, such as one of greetings only."""
    words = " ".join(turn.text for turn in turns).split()
    if not words:
        return NOTHING_SAID
    return " ".join(words[:_MOST_WORDS_UNCHOSEN]) if not actions else ""
