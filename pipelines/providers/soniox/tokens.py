"""Converts Soniox' tokens, which are parts of words, to words and segments. Pure."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from pydantic import BaseModel, field_validator

from pipelines.providers.common.trimmed_audio import TrimmedAudio
from pipelines.providers.common.utterances import SpokenWord, segments_of
from schemas.artifacts import Segment

_UNDETERMINED = "und"  # ISO 639: undetermined, because no one spoke
_GAP_MS = 600  # longer than any pause inside a word, so it ends a word in languages without spaces


class Token(BaseModel):
    """Part of a word, with the space before it. Times in ms."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float = 0.0
    speaker: str | int | None = None
    language: str | None = None
    is_audio_event: bool | None = None
    translation_status: str | None = None

    @property
    def is_speech(self) -> bool:
        """True for spoken words. Sounds such as "[laughter]" and translations are not spoken."""
        return bool(self.text) and not self.is_audio_event and self.translation_status != "translation"


class SonioxTranscript(BaseModel):
    """Transcript as the API returns it."""

    id: str
    text: str
    tokens: list[Token]

    @field_validator("tokens", mode="before")
    @classmethod
    def _timed(cls, tokens: object) -> object:
        """Drops tokens without times, such as translations: they were not spoken."""
        if not isinstance(tokens, list):
            return tokens
        return [token for token in tokens if not isinstance(token, dict) or token.get("start_ms") is not None]


def language_of(tokens: Iterable[Token]) -> str:
    """Returns the language with the most characters of speech; "und" if no one spoke."""
    characters: Counter[str] = Counter()
    for token in tokens:
        if token.is_speech and token.language:
            characters[token.language] += len(token.text.strip())
    return characters.most_common(1)[0][0] if characters else _UNDETERMINED


def words_of(tokens: Iterable[Token]) -> list[SpokenWord]:
    """Joins tokens, in order, to words.

    The confidence of a word is the lowest of its tokens. Its language is that of its first token that has one:
    punctuation may have none.
    """
    words: list[list[Token]] = []
    for token in tokens:
        if not token.is_speech:
            continue
        if words and _continues_word(words[-1][-1], token):
            words[-1].append(token)
        else:
            words.append([token])
    return [
        SpokenWord(
            start_ms=parts[0].start_ms,
            end_ms=max(part.end_ms for part in parts),
            text="".join(part.text for part in parts),
            confidence=round(min(part.confidence for part in parts), 3),
            language=next((part.language for part in parts if part.language), ""),
        )
        for parts in words
    ]


def turns_of(tokens: Sequence[Token], audio: TrimmedAudio, speakers: Sequence[str], duration_ms: int) -> list[Segment]:
    """Returns the segments of the call from the tokens of its trimmed audio.

    On a recording with one channel, Soniox separates the speakers. They are named "speaker 1", "speaker 2" and so on,
    in the order in which they first speak.

    Args:
        tokens: Tokens of the transcript.
        audio: Trimmed audio that was sent.
        speakers: Name per channel.
        duration_ms: Duration of the recording.
    """
    if len(speakers) > 1:
        channels: list[list[SpokenWord]] = [[] for _ in speakers]
        # Map words, not tokens: parts of one word must not fall into two regions.
        for word in words_of(tokens):
            channel, start_ms, end_ms = audio.to_source_time(word.start_ms, word.end_ms)
            channels[channel].append(_at(word, start_ms, end_ms, duration_ms))
        return segments_of(channels, speakers)
    voices: dict[str, list[SpokenWord]] = {}
    spoken = (token for token in tokens if token.is_speech)
    for voice, group in groupby(spoken, key=lambda token: str(token.speaker or "")):
        for word in words_of(group):
            _, start_ms, end_ms = audio.to_source_time(word.start_ms, word.end_ms)
            voices.setdefault(voice, []).append(_at(word, start_ms, end_ms, duration_ms))
    names = [f"speaker {number}" for number in range(1, len(voices) + 1)] if len(voices) > 1 else list(speakers)
    turns = segments_of(list(voices.values()), names)
    return [turn.model_copy(update={"channel": 0}) for turn in turns]


def _at(word: SpokenWord, start_ms: int, end_ms: int, duration_ms: int) -> SpokenWord:
    start_ms = min(start_ms, duration_ms)
    return replace(word, start_ms=start_ms, end_ms=min(max(start_ms, end_ms), duration_ms))


def _continues_word(before: Token, token: Token) -> bool:
    """True if the token continues the word of the token before it."""
    if token.text[0].isspace() or before.text[-1].isspace():
        return False
    if _is_punctuation(token.text):
        return True
    if token.start_ms - before.end_ms > _GAP_MS or token.speaker != before.speaker:
        return False
    return not (_is_spaceless(before.text[-1]) or _is_spaceless(token.text[0]))


def _is_punctuation(text: str) -> bool:
    """True for punctuation, which belongs to the word before it."""
    return all(unicodedata.category(char)[0] == "P" for char in text)


def _is_spaceless(char: str) -> bool:
    """True if the character's script has no spaces between words. Each token of such a script counts as a word."""
    name = unicodedata.name(char, "")
    return name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))
