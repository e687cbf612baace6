"""From an answer of /audio/transcriptions to words with times. Pure.

Servers differ in what they give: OpenAI's words have no punctuation (the text has it), speaches' have it and a
probability, vLLM has segments only.
"""

import math
from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, Field, model_validator

from core.languages import CODES
from pipelines.providers.common.utterances import SpokenWord

UNDETERMINED = "und"  # ISO 639: no language, since nobody spoke
# Whisper's own rule for "nobody is speaking here".
_NO_SPEECH = 0.6
_LOW_LOGPROB = -1.0
_FARTHEST = 80  # characters between two words of the text; beyond, a word was found in the wrong place


class Word(BaseModel):
    """A word; times in seconds."""

    word: str
    start: float
    end: float
    probability: float | None = None


class Segment(BaseModel):
    """A stretch of text; times in seconds."""

    start: float
    end: float
    text: str
    avg_logprob: float | None = None
    no_speech_prob: float | None = None

    @property
    def is_nobody(self) -> bool:
        """Whether the words were made up for silence or music."""
        return (self.no_speech_prob or 0) > _NO_SPEECH and (self.avg_logprob or 0) < _LOW_LOGPROB

    @property
    def confidence(self) -> float:
        """Of its words, 0 to 1; 0 where the server does not say."""
        return math.exp(min(0.0, self.avg_logprob)) if self.avg_logprob is not None else 0.0


class Usage(BaseModel):
    """What is charged. seconds: of audio, where that is the measure."""

    seconds: float | None = None


class Answer(BaseModel):
    """The body of `verbose_json`."""

    text: str = ""
    language: str = ""
    duration: float | None = None
    words: list[Word] | None = None
    segments: list[Segment] | None = Field(None)
    usage: Usage | None = None

    @model_validator(mode="after")
    def _is_a_transcript(self) -> Self:
        """Silence has an empty text; some servers answer an error with 200, and that has none."""
        if not {"text", "words", "segments"} & self.model_fields_set:
            raise ValueError("there is no text in it")
        return self

    @property
    def billed_ms(self) -> int | None:
        """The audio the server counted."""
        seconds = self.usage.seconds if self.usage and self.usage.seconds is not None else self.duration
        return None if seconds is None else round(seconds * 1000)


def language_code(language: str) -> str:
    """ISO 639-1 of what a server calls a language, "und" for what nobody knows. OpenAI gives names, others codes."""
    name = language.strip().lower()
    return CODES.get(name, name if len(name) in (2, 3) else UNDETERMINED)


def words_of(answer: Answer, duration_ms: int) -> list[SpokenWord]:
    """The words, with the space before and the marks after them. duration_ms: of the audio, for a server that gives no
    times at all."""
    segments = answer.segments or []
    if answer.words:
        return [
            SpokenWord(round(word.start * 1000), round(word.end * 1000), text, round(_confidence(word, segments), 3))
            for word, text in zip(answer.words, _written(answer.text, answer.words), strict=True)
            if not any(one.is_nobody and one.start <= word.start < one.end for one in segments)
        ]
    if not segments and answer.text.strip():
        segments = [Segment(start=0, end=duration_ms / 1000, text=answer.text)]
    return [word for segment in segments if not segment.is_nobody for word in _spread(segment)]


def _written(text: str, words: Sequence[Word]) -> list[str]:
    """Each word as the text has it: with what is between it and the next, up to the space."""
    written = []
    position = 0
    for word in words:
        core = word.word.strip()
        at = text.find(core, position)
        if not core or at < 0 or at - position > _FARTHEST:
            written.append(f" {core}")
            continue
        end = at + len(core)
        while end < len(text) and not text[end].isspace() and not text[end].isalnum():
            end += 1
        written.append(text[position:end])
        position = end
    return written


def _confidence(word: Word, segments: Sequence[Segment]) -> float:
    if word.probability is not None:
        return word.probability
    return next((one.confidence for one in segments if one.start <= word.start < one.end), 0.0)


def _spread(segment: Segment) -> list[SpokenWord]:
    """The segment's words with times between its own, by their length: an estimate."""
    words = segment.text.split()
    letters = sum(len(word) for word in words)
    spread = []
    before = 0
    for word in words:
        start, end = (
            round((segment.start + (segment.end - segment.start) * at / letters) * 1000)
            for at in (before, before + len(word))
        )
        spread.append(SpokenWord(start, end, f" {word}", round(segment.confidence, 3)))
        before += len(word)
    return spread
