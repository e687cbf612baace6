"""Renders a transcript as plain text, SubRip (SRT) or WebVTT. Pure."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from schemas.artifacts import Segment, Transcript, Word

# Limits that a viewer can read, by broadcasters' rules of thumb.
_MAX_CHARS = 84  # two lines
_LINE_CHARS = 42
_MAX_MS = 6_000
_PAUSE_MS = 1_000  # a pause this long ends a cue, so that the text does not stay during the silence
_SENTENCE_CHARS = 40  # in a cue longer than this, the end of a sentence ends the cue as well
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")  # noqa: RUF001  # full-width characters on purpose


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle, shown from start_ms until before end_ms (ms from the recording's start)."""

    start_ms: int
    end_ms: int
    speaker: str
    text: str


def to_txt(transcript: Transcript) -> str:
    """Returns one line per segment, `[00:12.3] outbound: text`, with hours if the call is that long."""
    return "".join(
        f"[{_clock(segment.start_ms)}] {segment.speaker}: {' '.join(segment.text.split())}\n"
        for segment in transcript.segments
    )


def to_srt(transcript: Transcript) -> str:
    """Returns SubRip. The speaker precedes the text, since the format has no field for speakers."""
    return "\n".join(
        f"{number}\n{_timestamp(cue.start_ms, ',')} --> {_timestamp(cue.end_ms, ',')}\n"
        f"{_wrapped(f'{cue.speaker}: {cue.text}')}\n"
        for number, cue in enumerate(cues(transcript), start=1)
    )


def to_vtt(transcript: Transcript) -> str:
    """Returns WebVTT, with the speaker as a voice span."""
    blocks = [
        f"{_timestamp(cue.start_ms, '.')} --> {_timestamp(cue.end_ms, '.')}\n"
        f"<v {_escaped(' '.join(cue.speaker.split()))}>{_escaped(_wrapped(cue.text))}\n"
        for cue in cues(transcript)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def cues(transcript: Transcript) -> list[Cue]:
    """Returns readable subtitles ordered by start; none is empty or ends after the call.

    A long segment is cut between words, at pauses and ends of sentences if possible. Segments of two speakers who
    speak at the same time give overlapping cues, which both formats allow.
    """
    last_ms = max(transcript.duration_ms, 1)
    found: list[Cue] = []
    for segment in transcript.segments:
        words = _timed_words(segment)
        for run, text in _runs_with_text(segment.text, words):
            start_ms = min(max(run[0].start_ms, 0), last_ms - 1)
            end_ms = min(max(run[-1].end_ms, start_ms + 1), last_ms)
            found.append(Cue(start_ms, end_ms, segment.speaker, text))
    return sorted(found, key=lambda cue: (cue.start_ms, cue.end_ms))


def _timed_words(segment: Segment) -> Sequence[Word]:
    """Returns the segment's non-empty words; if the engine gave none, the words of its text, evenly spread."""
    words = [word for word in segment.words if word.text.strip()]
    if words:
        return words
    tokens = segment.text.split()
    span_ms = max(segment.end_ms - segment.start_ms, 0)
    edges = [segment.start_ms + span_ms * index // max(len(tokens), 1) for index in range(len(tokens) + 1)]
    return [
        Word(start_ms=edges[index], end_ms=edges[index + 1], text=token, confidence=0.0)
        for index, token in enumerate(tokens)
    ]


def _runs_with_text(text: str, words: Sequence[Word]) -> Iterator[tuple[Sequence[Word], str]]:
    """Cuts words into cues, each with its piece of the segment's text."""
    offsets = _offsets(text, words)
    position = 0
    for run in _runs(words):
        first, position = position, position + len(run)
        if offsets is None:
            piece = " ".join(word.text for word in run)
        else:
            # Cuts the text instead of joining words with spaces, for languages that are written without spaces.
            piece = text[offsets[first] : offsets[position] if position < len(words) else len(text)]
        yield run, " ".join(piece.split())


def _runs(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    run: list[Word] = []
    chars = 0
    for word in words:
        size = len(word.text.strip()) + 1
        if run and (
            chars + size > _MAX_CHARS
            or word.end_ms - run[0].start_ms > _MAX_MS
            or word.start_ms - run[-1].end_ms >= _PAUSE_MS
            or (chars >= _SENTENCE_CHARS and run[-1].text.rstrip().endswith(_SENTENCE_ENDS))
        ):
            yield run
            run, chars = [], 0
        run.append(word)
        chars += size
    if run:
        yield run


def _offsets(text: str, words: Sequence[Word]) -> list[int] | None:
    """Returns the offset of each word in the text, or None if the text does not consist of these words."""
    offsets: list[int] = []
    position = 0
    for word in words:
        token = word.text.strip()
        found = text.find(token, position)
        if found < 0 or text[position:found].strip():
            return None
        offsets.append(found)
        position = found + len(token)
    return offsets


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _LINE_CHARS, break_long_words=False, break_on_hyphens=False))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(ms: int) -> str:
    minutes, rest_ms = divmod(max(ms, 0), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest_ms // 1000:02d}.{rest_ms % 1000 // 100}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes:02d}:{seconds}"


def _timestamp(ms: int, mark: str) -> str:
    seconds, rest_ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest_ms:03d}"


# Content type and renderer of every format but JSON.
RENDERERS: dict[str, tuple[str, Callable[[Transcript], str]]] = {
    "txt": ("text/plain", to_txt),
    "srt": ("application/x-subrip", to_srt),
    "vtt": ("text/vtt", to_vtt),
}
