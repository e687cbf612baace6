"""Builds the segments of a conversation from the words of each channel. Pure.

The segments of an engine do not help: a batching engine may return one that lasts a minute. Words have times, so the
segments are built from words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from schemas.artifacts import Segment, Word

_GAP_MS = 600  # a longer pause ends an utterance: the other speaker may have spoken during it
# A segment continues until the other speaker speaks, but within limits: after a long pause the speaker begins a new
# thought, and a monologue must stay readable as subtitles and findable by search.
_MAX_PAUSE_MS = 3_000
_MAX_TURN_MS = 30_000


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """Word as the engine returned it.

    text: includes the space before it, if the language has one. Times in ms. language: ISO 639 code, "" if unknown.
    """

    start_ms: int
    end_ms: int
    text: str
    confidence: float
    language: str = ""


@dataclass(frozen=True, slots=True)
class _Utterance:
    channel: int
    words: tuple[SpokenWord, ...]

    @property
    def start_ms(self) -> int:
        return self.words[0].start_ms

    @property
    def language(self) -> str:
        return self.words[0].language

    @property
    def end_ms(self) -> int:
        return max(word.end_ms for word in self.words)


def segments_of(channels: Sequence[Iterable[SpokenWord]], speakers: Sequence[str]) -> list[Segment]:
    """Returns the segments of the conversation, ordered by start.

    Segments overlap where two speakers speak at the same time.

    Args:
        channels: Words of each channel.
        speakers: Speaker of each channel.
    """
    utterances = [utterance for channel, words in enumerate(channels) for utterance in _split(channel, words)]
    utterances.sort(key=lambda utterance: (utterance.start_ms, utterance.channel))
    return [_segment(utterance, speakers[utterance.channel]) for utterance in _merge(utterances)]


def _split(channel: int, words: Iterable[SpokenWord]) -> list[_Utterance]:
    """Splits the channel's words at pauses longer than _GAP_MS and where the language changes."""
    ordered = sorted((word for word in words if word.text.strip()), key=lambda word: word.start_ms)
    if not ordered:
        return []
    cuts = [
        index
        for index, (one, two) in enumerate(pairwise(ordered), 1)
        if two.start_ms - one.end_ms > _GAP_MS or two.language != one.language
    ]
    return [
        _Utterance(channel, tuple(ordered[start:end]))
        for start, end in zip([0, *cuts], [*cuts, len(ordered)], strict=True)
    ]


def _merge(utterances: Iterable[_Utterance]) -> list[_Utterance]:
    """Joins neighbouring utterances of the same speaker."""
    merged: list[_Utterance] = []
    for utterance in utterances:
        if merged and _continues(merged[-1], utterance):
            merged[-1] = replace(merged[-1], words=merged[-1].words + utterance.words)
        else:
            merged.append(utterance)
    return merged


def _continues(one: _Utterance, two: _Utterance) -> bool:
    return (
        one.channel == two.channel
        and one.language == two.language
        and two.start_ms - one.end_ms <= _MAX_PAUSE_MS
        and two.end_ms - one.start_ms <= _MAX_TURN_MS
    )


def _segment(utterance: _Utterance, speaker: str) -> Segment:
    return Segment(
        start_ms=utterance.start_ms,
        end_ms=utterance.end_ms,
        channel=utterance.channel,
        speaker=speaker,
        text="".join(word.text for word in utterance.words).strip(),
        words=[
            Word(start_ms=word.start_ms, end_ms=word.end_ms, text=word.text.strip(), confidence=word.confidence)
            for word in utterance.words
        ],
        language=utterance.language,
    )
