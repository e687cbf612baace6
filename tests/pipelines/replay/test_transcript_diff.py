"""Two versions of a transcript, word by word."""

from pipelines.replay.transcript_diff import compare
from schemas.artifacts import Segment, Transcript, Word


def said(*turns: tuple[int, str]) -> Transcript:
    """A transcript of (channel, text), a word every 100 ms from each full second on."""
    segments = []
    for number, (channel, text) in enumerate(turns):
        start = number * 1_000
        words = [
            Word(start_ms=start + 100 * i, end_ms=start + 100 * i + 90, text=word, confidence=1)
            for i, word in enumerate(text.split())
        ]
        segments.append(
            Segment(start_ms=start, end_ms=start + 999, channel=channel, speaker="s", text=text, words=words)
        )
    return Transcript(call_id="c", language="en", duration_ms=9_000, provider="p", model="m", segments=segments)


def test_case_and_punctuation_do_not_count() -> None:
    """Engines write the same words differently; that is no error."""
    found = compare(said((0, "Hello, this is Grace.")), said((0, "hello this is grace")))
    assert (found.word_error_rate, found.changes) == (0, [])


def test_each_kind_of_difference_is_counted_and_placed() -> None:
    """One word replaced, one left out, one added, on two channels: three errors in nine words, each where it is."""
    before = said((0, "my router is down today"), (1, "we will call back"))
    after = said((0, "my rooter is down"), (1, "we will call you back"))

    found = compare(before, after)

    assert (found.words_before, found.words_after) == (9, 9)
    assert (found.replaced, found.deleted, found.inserted) == (1, 1, 1)
    assert found.word_error_rate == round(3 / 9, 4)
    assert [(one.op, one.channel, one.start_ms, one.before, one.after) for one in found.changes] == [
        ("replace", 0, 100, "router", "rooter"),
        ("delete", 0, 400, "today", ""),
        ("insert", 1, 1_300, "", "you"),
    ]


def test_nothing_against_something() -> None:
    """A version that heard nothing at all, and one against nothing, must not divide by nothing."""
    assert compare(said(), said((0, "hello there"))).word_error_rate == 2
    assert compare(said((0, "hello there")), said()).deleted == 2
    assert compare(said(), said()).word_error_rate == 0
