"""Splits a transcript into searchable chunks: speaker turns, long ones in several chunks. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.text.sentences import sentence_spans
from schemas.artifacts import Segment, Transcript

# About 60 English words or 80 tokens: one vector for more text says too little about each part of it. Counted in
# characters, since not every language puts spaces between words.
_MAX_CHARS = 360
_WORD = re.compile(r"\w+")
# "Okay.", "Bye." match every short query and answer none. Letters decide in languages where one word is a sentence.
_FEWEST_WORDS = 2
_FEWEST_LETTERS = 6


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one speaker's words. Times in ms from the recording's start."""

    start_ms: int
    end_ms: int
    channel: int
    speaker: str
    text: str


def chunks_of(transcript: Transcript) -> list[Chunk]:
    """Returns the chunks of the transcript that are worth searching, in order."""
    return [chunk for segment in transcript.segments for chunk in _chunks(segment) if not _is_trivial(chunk.text)]


def _chunks(segment: Segment) -> Iterator[Chunk]:
    offsets = _offsets(segment)
    for start, end in _packed(segment.text):
        words = [word for offset, word in zip(offsets, segment.words, strict=True) if start <= offset < end]
        yield Chunk(
            # Not every engine returns words: then only the times of the turn are known.
            start_ms=words[0].start_ms if words else segment.start_ms,
            end_ms=max(word.end_ms for word in words) if words else segment.end_ms,
            channel=segment.channel,
            speaker=segment.speaker,
            text=segment.text[start:end],
        )


def _offsets(segment: Segment) -> list[int]:
    """Returns the position in the text, in characters, at which each word of the segment begins."""
    offsets = []
    position = 0
    for word in segment.words:
        found = segment.text.find(word.text, position)
        offsets.append(found if found >= 0 else position)
        position = offsets[-1] + (len(word.text) if found >= 0 else 0)
    return offsets


def _packed(text: str) -> list[tuple[int, int]]:
    """Returns the spans of the chunks: as many whole sentences each as fit."""
    packed: list[tuple[int, int]] = []
    for sentence_start, sentence_end in sentence_spans(text):
        for start, end in _broken(text, sentence_start, sentence_end):
            if packed and end - packed[-1][0] <= _MAX_CHARS:
                packed[-1] = (packed[-1][0], end)
            else:
                packed.append((start, end))
    return packed


def _broken(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Splits a sentence that is too long (some engines omit punctuation), at spaces if there are any."""
    while end - start > _MAX_CHARS:
        cut = text.rfind(" ", start, start + _MAX_CHARS + 1)
        cut = cut if cut > start else start + _MAX_CHARS
        yield start, cut
        start = cut + 1 if text[cut] == " " else cut
    if start < end:
        yield start, end


def _is_trivial(text: str) -> bool:
    words = _WORD.findall(text)
    return len(words) < _FEWEST_WORDS and sum(map(len, words)) < _FEWEST_LETTERS
