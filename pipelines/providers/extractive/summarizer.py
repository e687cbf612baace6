"""Summaries without a language model: sentences that were really said, chosen and never rewritten.

It cannot say anything new, and so nothing untrue.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from core.health_check import Check
from pipelines.providers.base import NOTHING_SAID, SummaryJob
from pipelines.providers.extractive.action_items import is_commitment
from pipelines.providers.extractive.lsa_ranking import most_salient
from pipelines.text.sentences import split_sentences
from schemas.artifacts import Summary, Transcript

_ABSTRACT = 4  # sentences: on the demo calls these have five facts of six
_FEWEST_POINTS, _MOST_POINTS = 3, 10
_SENTENCES_PER_POINT = 5
_MOST_ACTIONS = 10

# Raised when the same transcript would get another summary, so that its key changes.
_REVISION = 1


@dataclass(frozen=True, slots=True)
class _Said:
    speaker: str
    text: str

    def __str__(self) -> str:
        return f"{self.speaker}: {self.text}"


class Extractive:
    """Summaries by choosing sentences."""

    name = "extractive"
    model = "lsa"

    def config(self) -> Mapping[str, object]:
        """The method and its revision."""
        return {"provider": self.name, "model": self.model, "revision": _REVISION}

    async def summarize(self, job: SummaryJob) -> Summary:
        """The call's summary; in a thread, since a long call takes a second."""
        return await asyncio.to_thread(self.summary_of, job.transcript)

    async def check(self) -> Check:
        """It needs nothing but itself."""
        return Check("Extractive", True, "made here, nothing to reach")

    def summary_of(self, transcript: Transcript) -> Summary:
        """The transcript's summary. Takes up to a second."""
        said = [
            _Said(segment.speaker, sentence)
            for segment in transcript.segments
            for sentence in split_sentences(segment.text)
        ]
        points = min(max(len(said) // _SENTENCES_PER_POINT, _FEWEST_POINTS), _MOST_POINTS)
        return Summary(
            call_id=transcript.call_id,
            provider=self.name,
            model=self.model,
            abstract=_paragraph(_salient(said, _ABSTRACT)) or NOTHING_SAID,
            key_points=[str(sentence) for sentence in _salient(said, points)],
            action_items=_unique(str(sentence) for sentence in said if is_commitment(sentence.text))[:_MOST_ACTIONS],
        )


def _salient(said: Sequence[_Said], count: int) -> list[_Said]:
    return [said[index] for index in most_salient([sentence.text for sentence in said], count)]


def _paragraph(said: Iterable[_Said]) -> str:
    """The sentences in a row, each speaker named where they begin."""
    return " ".join(
        f"{speaker}: {' '.join(sentence.text for sentence in sentences)}"
        for speaker, sentences in groupby(said, key=lambda sentence: sentence.speaker)
    )


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
