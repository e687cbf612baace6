"""From Soniox' tokens, which are pieces of words, to words and turns. Pure."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from pydantic import BaseModel, field_validator

from pipelines.providers.common.trimmed_audio import TrimmedAudio
from pipelines.providers.common.utterances import SpokenWord, segments_of
from schemas.artifacts import Segment

_UNDETERMINED = "und"  # ISO 639: no language, since nobody spoke
_GAP_MS = 600  # no word has such a hole: where a language has no spaces, it ends one


class Token(BaseModel):
    """A piece of a word, with the space before it. Times in ms."""

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
        """Whether somebody said it: neither a sound ("[laughter]") nor its translation."""
        return bool(self.text) and not self.is_audio_event and self.translation_status != "translation"


class Heard(BaseModel):
    """The transcript as the API gives it."""

    id: str
    text: str
    tokens: list[Token]

    @field_validator("tokens", mode="before")
    @classmethod
    def _timed(cls, tokens: object) -> object:
        """What has no times, such as a translation, was not said."""
        if not isinstance(tokens, list):
            return tokens
        return [token for token in tokens if not isinstance(token, dict) or token.get("start_ms") is not None]


def language_of(tokens: Iterable[Token]) -> str:
    """The language of most of what was said, by characters; "und" if nobody spoke."""
    said: Counter[str] = Counter()
    for token in tokens:
        if token.is_speech and token.language:
            said[token.language] += len(token.text.strip())
    return said.most_common(1)[0][0] if said else _UNDETERMINED


def words_of(tokens: Iterable[Token]) -> list[SpokenWord]:
    """The words of tokens in order. A word is as sure as the least sure of its pieces."""
    words: list[list[Token]] = []
    for token in tokens:
        if not token.is_speech:
            continue
        if words and _goes_on(words[-1][-1], token):
            words[-1].append(token)
        else:
            words.append([token])
    return [
        SpokenWord(
            start_ms=pieces[0].start_ms,
            end_ms=max(piece.end_ms for piece in pieces),
            text="".join(piece.text for piece in pieces),
            confidence=round(min(piece.confidence for piece in pieces), 3),
        )
        for pieces in words
    ]


def turns_of(tokens: Sequence[Token], reel: TrimmedAudio, speakers: Sequence[str], duration_ms: int) -> list[Segment]:
    """The call's turns from what was heard on its reel. speakers: the name per channel. Where there is one channel,
    whom Soniox told apart on it are "speaker 1", "speaker 2" and so on, in order of appearance."""
    if len(speakers) > 1:
        channels: list[list[SpokenWord]] = [[] for _ in speakers]
        # Word by word: pieces of one word must not fall on two sides of a cut.
        for word in words_of(tokens):
            channel, start_ms, end_ms = reel.to_source_time(word.start_ms, word.end_ms)
            channels[channel].append(_at(word, start_ms, end_ms, duration_ms))
        return segments_of(channels, speakers)
    voices: dict[str, list[SpokenWord]] = {}
    spoken = (token for token in tokens if token.is_speech)
    for voice, said in groupby(spoken, key=lambda token: str(token.speaker or "")):
        for word in words_of(said):
            _, start_ms, end_ms = reel.to_source_time(word.start_ms, word.end_ms)
            voices.setdefault(voice, []).append(_at(word, start_ms, end_ms, duration_ms))
    names = [f"speaker {number}" for number in range(1, len(voices) + 1)] if len(voices) > 1 else list(speakers)
    turns = segments_of(list(voices.values()), names)
    return [turn.model_copy(update={"channel": 0}) for turn in turns]


def _at(word: SpokenWord, start_ms: int, end_ms: int, duration_ms: int) -> SpokenWord:
    start_ms = min(start_ms, duration_ms)
    return SpokenWord(start_ms, min(max(start_ms, end_ms), duration_ms), word.text, word.confidence)


def _goes_on(before: Token, token: Token) -> bool:
    """Whether the token belongs to the word that `before` ends."""
    if token.text[0].isspace() or before.text[-1].isspace():
        return False
    if _is_mark(token.text):
        return True
    if token.start_ms - before.end_ms > _GAP_MS or token.speaker != before.speaker:
        return False
    return not (_is_spaceless(before.text[-1]) or _is_spaceless(token.text[0]))


def _is_mark(text: str) -> bool:
    """Punctuation, which belongs to the word before it."""
    return all(unicodedata.category(char)[0] == "P" for char in text)


def _is_spaceless(char: str) -> bool:
    """Whether the character's script puts no spaces between words: there each token is taken for a word."""
    name = unicodedata.name(char, "")
    return name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))
