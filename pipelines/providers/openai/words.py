"""Converts a response of /audio/transcriptions to words with times. Pure.

Servers differ: the words of OpenAI have no punctuation (its text has), those of speaches have punctuation and a
probability, and vLLM returns segments only.
"""

import math
from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, Field, model_validator

from core.languages import CODES
from pipelines.providers.common.utterances import SpokenWord

UNDETERMINED = "und"  # ISO 639: undetermined, because no one spoke
# Whisper's own rule for audio without speech.
_NO_SPEECH = 0.6
_LOW_LOGPROB = -1.0
_MAX_DISTANCE = 80  # characters between two words of the text; a larger distance means a wrong match


class ResponseWord(BaseModel):
    """Word of a response. Times in seconds."""

    word: str
    start: float
    end: float
    probability: float | None = None


class ResponseSegment(BaseModel):
    """Segment of a response. Times in seconds."""

    start: float
    end: float
    text: str
    avg_logprob: float | None = None
    no_speech_prob: float | None = None

    @property
    def is_silence(self) -> bool:
        """True if the model invented the words in silence or music."""
        return (self.no_speech_prob or 0) > _NO_SPEECH and (self.avg_logprob or 0) < _LOW_LOGPROB

    @property
    def confidence(self) -> float:
        """Confidence of its words, 0 to 1; 0 if the server does not report it."""
        return math.exp(min(0.0, self.avg_logprob)) if self.avg_logprob is not None else 0.0


class Usage(BaseModel):
    """Charged amount. seconds: seconds of audio, if the server charges by audio."""

    seconds: float | None = None


class TranscriptionResponse(BaseModel):
    """Body of a `verbose_json` response."""

    text: str = ""
    language: str = ""
    duration: float | None = None
    words: list[ResponseWord] | None = None
    segments: list[ResponseSegment] | None = Field(None)
    usage: Usage | None = None

    @model_validator(mode="after")
    def _is_a_transcript(self) -> Self:
        """Rejects a body without text: some servers respond to an error with 200. Silence has an empty text."""
        if not {"text", "words", "segments"} & self.model_fields_set:
            raise ValueError("the body has neither text nor words nor segments")
        return self

    @property
    def billed_ms(self) -> int | None:
        """Audio that the server counted, in ms; None if it does not report it."""
        seconds = self.usage.seconds if self.usage and self.usage.seconds is not None else self.duration
        return None if seconds is None else round(seconds * 1000)


def language_code(language: str) -> str:
    """Returns the ISO 639-1 code for a server's name of a language; "und" if it is unknown.

    OpenAI returns names, other servers return codes.
    """
    name = language.strip().lower()
    return CODES.get(name, name if len(name) in (2, 3) else UNDETERMINED)


def words_of(response: TranscriptionResponse, duration_ms: int) -> list[SpokenWord]:
    """Returns the words, each with the space before it and the punctuation after it.

    Args:
        response: Response of the server.
        duration_ms: Duration of the audio, for a server that returns no times.
    """
    segments = response.segments or []
    if response.words:
        return [
            SpokenWord(round(word.start * 1000), round(word.end * 1000), text, round(_confidence(word, segments), 3))
            for word, text in zip(response.words, _text_of_words(response.text, response.words), strict=True)
            if not any(one.is_silence and one.start <= word.start < one.end for one in segments)
        ]
    if not segments and response.text.strip():
        segments = [ResponseSegment(start=0, end=duration_ms / 1000, text=response.text)]
    return [word for segment in segments if not segment.is_silence for word in _estimated_words(segment)]


def _text_of_words(text: str, words: Sequence[ResponseWord]) -> list[str]:
    """Returns each word as it appears in the text: with the characters after it, up to the next space."""
    written = []
    position = 0
    for word in words:
        core = word.word.strip()
        at = text.find(core, position)
        if not core or at < 0 or at - position > _MAX_DISTANCE:
            written.append(f" {core}")
            continue
        end = at + len(core)
        while end < len(text) and not text[end].isspace() and not text[end].isalnum():
            end += 1
        written.append(text[position:end])
        position = end
    return written


def _confidence(word: ResponseWord, segments: Sequence[ResponseSegment]) -> float:
    if word.probability is not None:
        return word.probability
    return next((one.confidence for one in segments if one.start <= word.start < one.end), 0.0)


def _estimated_words(segment: ResponseSegment) -> list[SpokenWord]:
    """Estimates the times of the segment's words from their lengths."""
    words = segment.text.split()
    characters = sum(len(word) for word in words)
    estimated = []
    before = 0
    for word in words:
        start, end = (
            round((segment.start + (segment.end - segment.start) * at / characters) * 1000)
            for at in (before, before + len(word))
        )
        estimated.append(SpokenWord(start, end, f" {word}", round(segment.confidence, 3)))
        before += len(word)
    return estimated
