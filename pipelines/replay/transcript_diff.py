"""Compares two versions of a transcript word by word. Pure."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from schemas.artifacts import Segment, Transcript
from schemas.events import Frozen

_PUNCTUATION = re.compile(r"[^\w]+")


class Change(Frozen):
    """Piece of a channel in which the versions differ.

    start_ms: its position in the recording. before, after: the words of each version, "" if there are none.
    """

    op: Literal["replace", "delete", "insert"]
    channel: int
    start_ms: int
    before: str
    after: str


class Comparison(Frozen):
    """Differences of two versions. Ignores case and punctuation.

    words_before, words_after: words of each version. replaced, deleted, inserted: words that differ.
    word_error_rate: differing words per word of the first version, which is the reference; 0 if both are empty.
    """

    words_before: int
    words_after: int
    replaced: int
    deleted: int
    inserted: int
    word_error_rate: float
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start_ms: int

    @property
    def plain(self) -> str:
        return _PUNCTUATION.sub("", self.text).casefold()


def compare(before: Transcript, after: Transcript) -> Comparison:
    """Returns the differences of the second transcript from the first. Takes seconds for hours of speech."""
    changes: list[Change] = []
    counts = {"replaced": 0, "deleted": 0, "inserted": 0}
    totals = [0, 0]
    channels = sorted({segment.channel for segment in (*before.segments, *after.segments)})
    for channel in channels:
        old, new = _words(before, channel), _words(after, channel)
        totals = [totals[0] + len(old), totals[1] + len(new)]
        matcher = SequenceMatcher(None, [word.plain for word in old], [word.plain for word in new], autojunk=False)
        for op, i, j, k, n in matcher.get_opcodes():
            if op == "equal":
                continue
            both = min(j - i, n - k)
            counts["replaced"] += both
            counts["deleted"] += j - i - both
            counts["inserted"] += n - k - both
            near = (new[k:n] or old[i:j])[0]
            changes.append(
                Change.model_validate(
                    {
                        "op": op,
                        "channel": channel,
                        "start_ms": near.start_ms,
                        "before": " ".join(word.text for word in old[i:j]),
                        "after": " ".join(word.text for word in new[k:n]),
                    }
                )
            )
    errors = sum(counts.values())
    return Comparison(
        words_before=totals[0],
        words_after=totals[1],
        **counts,
        word_error_rate=round(errors / max(1, totals[0]), 4),
        changes=sorted(changes, key=lambda change: (change.start_ms, change.channel)),
    )


def _words(transcript: Transcript, channel: int) -> list[_Word]:
    return [
        word
        for segment in transcript.segments
        if segment.channel == channel
        for word in _of_segment(segment)
        if word.plain
    ]


def _of_segment(segment: Segment) -> list[_Word]:
    """Returns the words of a segment with their start times.

    If the engine gives no words, or splits them differently from the text, every word gets the segment's start.
    """
    texts = segment.text.split()
    if len(texts) == len(segment.words):
        return [_Word(text, word.start_ms) for text, word in zip(texts, segment.words, strict=True)]
    return [_Word(text, segment.start_ms) for text in texts]
