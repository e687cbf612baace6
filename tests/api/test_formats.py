"""A transcript as text and subtitles: by example, and by hypothesis for whatever an engine may say."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from api.formats import cues, to_srt, to_txt, to_vtt
from schemas.artifacts import Segment, Transcript, Word


def _words(text: str, start_ms: int = 0, each_ms: int = 300, step_ms: int = 350) -> list[Word]:
    return [
        Word(
            start_ms=start_ms + index * step_ms,
            end_ms=start_ms + index * step_ms + each_ms,
            text=token,
            confidence=0.9,
        )
        for index, token in enumerate(text.split())
    ]


def _segment(text: str, start_ms: int, end_ms: int, channel: int = 1, words: list[Word] | None = None) -> Segment:
    return Segment(
        start_ms=start_ms,
        end_ms=end_ms,
        channel=channel,
        speaker=("inbound", "outbound")[channel],
        text=text,
        words=words or [],
    )


def _transcript(*segments: Segment, duration_ms: int = 60_000) -> Transcript:
    return Transcript(
        call_id="c",
        language="en",
        duration_ms=duration_ms,
        provider="whisper",
        model="base",
        segments=list(segments),
    )


def test_txt_reads_like_a_play() -> None:
    """Writes two turns, one past the first hour. If it failed, times or speakers would be unreadable."""
    transcript = _transcript(
        _segment("Good\nmorning.", 12_345, 13_000),
        _segment("Hello?", 3_723_990, 3_724_500, channel=0),
        duration_ms=4_000_000,
    )
    assert to_txt(transcript) == "[00:12.3] outbound: Good morning.\n[1:02:03.9] inbound: Hello?\n"


def test_srt_and_vtt_of_a_short_turn() -> None:
    """Writes one turn in both formats, with what WebVTT must escape. If it failed, players would refuse the file or
    swallow text after a `<`."""
    transcript = _transcript(_segment("R&D <is> here", 1_000, 2_500))
    assert to_srt(transcript) == "1\n00:00:01,000 --> 00:00:02,500\noutbound: R&D <is> here\n"
    assert to_vtt(transcript) == ("WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n<v outbound>R&amp;D &lt;is&gt; here\n")


def test_nothing_said() -> None:
    """Writes an empty transcript. If it failed, a silent call would have an invalid subtitle file."""
    assert to_txt(_transcript()) == ""
    assert to_srt(_transcript()) == ""
    assert to_vtt(_transcript()) == "WEBVTT\n"


def test_a_long_turn_is_cut_where_one_would_breathe() -> None:
    """A turn of 40 words with a pause inside becomes cues of at most 84 characters and 6 s that start when their
    words are said. If it failed, a viewer would face a wall of text for half a minute."""
    first = _words("the quick brown fox jumps over the lazy dog " * 4)
    second = _words("and then she said goodbye", start_ms=first[-1].end_ms + 5_000)
    text = " ".join(word.text for word in [*first, *second])
    found = cues(_transcript(_segment(text, 0, second[-1].end_ms, words=[*first, *second])))
    assert len(found) > 2
    assert all(len(cue.text) <= 84 and cue.end_ms - cue.start_ms <= 6_000 for cue in found)
    assert found[-1].text == "and then she said goodbye"
    assert found[-1].start_ms == second[0].start_ms
    assert " ".join(cue.text for cue in found) == text


def test_languages_without_blanks_stay_as_written() -> None:
    """Japanese words are not separated in the text. If it failed, blanks would be put between them."""
    words = _words("こんにちは 田中 です")
    found = cues(_transcript(_segment("こんにちは田中です", 0, 1_000, words=words)))
    assert [cue.text for cue in found] == ["こんにちは田中です"]


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_MS = st.integers(-100, 20_000)


@st.composite
def _transcripts(draw: st.DrawFn) -> Transcript:
    """Also what no engine should say: times that run backwards or past the end, words that are not in the text."""
    segments = []
    for _ in range(draw(st.integers(0, 5))):
        words = [
            Word(start_ms=draw(_MS), end_ms=draw(_MS), text=draw(_TEXT), confidence=0.5)
            for _ in range(draw(st.integers(0, 25)))
        ]
        text = " ".join(word.text for word in words) if draw(st.booleans()) else draw(_TEXT)
        segments.append(_segment(text, draw(_MS), draw(_MS), draw(st.integers(0, 1)), words))
    return _transcript(*segments, duration_ms=draw(st.integers(1, 20_000)))


def _tokens(transcript: Transcript) -> list[str]:
    """All words that must be found again: an engine's words where it gave some, else the text's."""
    found: list[str] = []
    for segment in transcript.segments:
        words = [token for word in segment.words for token in word.text.split()]
        found += words or segment.text.split()
    return sorted(found)


@settings(deadline=None)  # a busy machine is no fault
@given(_transcripts())
def test_cues_of_anything(transcript: Transcript) -> None:
    """Cuts anything an engine may say. If it failed, cues would be out of order, empty, outside the call, or words
    would be lost."""
    found = cues(transcript)
    assert [cue.start_ms for cue in found] == sorted(cue.start_ms for cue in found)
    assert all(0 <= cue.start_ms < cue.end_ms <= transcript.duration_ms for cue in found)
    assert sorted(" ".join(cue.text for cue in found).split()) == _tokens(transcript)


_SRT_BLOCK = re.compile(
    r"(\d+)\n(\d\d):([0-5]\d):([0-5]\d),(\d{3}) --> (\d\d):([0-5]\d):([0-5]\d),(\d{3})\n((?:.+\n)+)"
)
_VTT_TIME = re.compile(r"\d\d:[0-5]\d:[0-5]\d\.\d{3} --> \d\d:[0-5]\d:[0-5]\d\.\d{3}")


@settings(deadline=None)  # a busy machine is no fault
@given(_transcripts())
def test_files_of_anything_are_well_formed(transcript: Transcript) -> None:
    """Reads both files back, block by block. If it failed, a blank line, a stray `-->` or a bare `<` inside the text
    would break the file for players."""
    count = len(cues(transcript))
    srt = to_srt(transcript)
    assert [int(match[1]) for match in _SRT_BLOCK.finditer(srt)] == list(range(1, count + 1))
    assert sum(1 for block in srt.split("\n\n") if block) == count
    header, *blocks = to_vtt(transcript).rstrip("\n").split("\n\n")
    assert header == "WEBVTT"
    assert len(blocks) == count
    for block in blocks:
        timing, _, payload = block.partition("\n")
        assert _VTT_TIME.fullmatch(timing)
        assert payload.startswith("<v ")
        assert payload.count("<") == 1
        assert "-->" not in payload
