"""Segments of a conversation from words, without an engine."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.providers.common.utterances import SpokenWord, segments_of

SPEAKERS = ("inbound", "outbound")


def said(start_ms: int, text: str, each_ms: int = 200) -> list[SpokenWord]:
    """Returns the words of a text, one after the other without a pause."""
    return [
        SpokenWord(start_ms + each_ms * index, start_ms + each_ms * (index + 1), f" {word}", 0.9)
        for index, word in enumerate(text.split())
    ]


def lines(*channels: list[SpokenWord]) -> list[tuple[int, str]]:
    """Returns the channel and text of each segment."""
    return [(segment.channel, segment.text) for segment in segments_of(channels, SPEAKERS)]


def test_speakers_take_turns() -> None:
    """Joins a question, an answer and a question, with each channel's words in one list.

    There must be three segments in the order of speech. Without a split at pauses, the second question would precede
    the answer.
    """
    inbound = [*said(0, "how are you"), *said(5_000, "glad to hear")]
    outbound = said(2_000, "fine thank you")

    assert lines(inbound, outbound) == [(0, "how are you"), (1, "fine thank you"), (0, "glad to hear")]


def test_a_pause_for_breath_does_not_end_a_turn() -> None:
    """Lets a speaker continue after a second in which no one spoke. There must be one segment."""
    assert lines([*said(0, "well"), *said(1_200, "let me think")], []) == [(0, "well let me think")]


def test_a_long_pause_ends_a_turn() -> None:
    """Lets a speaker continue after ten seconds. That must begin a new segment."""
    assert lines([*said(0, "hello"), *said(10_000, "anybody there")], []) == [
        (0, "hello"),
        (0, "anybody there"),
    ]


def test_a_monologue_is_cut_at_pauses() -> None:
    """Joins two minutes of one speaker with short pauses.

    No segment may be longer than 30 s, the limit of a subtitle.
    """
    words = [word for start in range(0, 120_000, 5_000) for word in said(start, "one two three four five", 800)]

    segments = segments_of([words, []], SPEAKERS)

    assert len(segments) > 3
    assert all(segment.end_ms - segment.start_ms <= 30_000 for segment in segments)


def test_an_interjection_stays_where_it_was_said() -> None:
    """Says "Okay" while the other speaker continues. Both segments must stay, and overlap."""
    segments = segments_of([said(0, "so what I did was to restart it twice"), said(1_000, "okay")], SPEAKERS)

    assert [(s.start_ms, s.end_ms, s.speaker) for s in segments] == [(0, 1_800, "inbound"), (1_000, 1_200, "outbound")]


def test_languages_without_spaces() -> None:
    """Joins Japanese words, which have no spaces before them. The text must have none either."""
    words = [SpokenWord(0, 300, "今日は", 0.9), SpokenWord(300, 600, "いい", 0.8), SpokenWord(600, 900, "天気。", 0.7)]

    assert lines(words, []) == [(0, "今日はいい天気。")]


spoken = st.lists(
    st.builds(
        lambda start, length, text: SpokenWord(start, start + length, text, 0.5),
        st.integers(0, 60_000),
        st.integers(0, 2_000),
        st.sampled_from([" a", " word", "-x", " ", ""]),
    ),
    max_size=40,
)


@given(spoken, spoken)
def test_no_word_is_lost_doubled_or_moved_to_another(left: list[SpokenWord], right: list[SpokenWord]) -> None:
    """Joins any words in any order. Segments must be ordered, and each channel must keep exactly its words."""
    segments = segments_of([left, right], SPEAKERS)

    assert [s.start_ms for s in segments] == sorted(s.start_ms for s in segments)
    for channel, words in enumerate((left, right)):
        got = [(w.start_ms, w.end_ms, w.text) for s in segments if s.channel == channel for w in s.words]
        expected = [(w.start_ms, w.end_ms, w.text.strip()) for w in words if w.text.strip()]
        assert sorted(got) == sorted(expected)
    for segment in segments:
        assert segment.text
        assert segment.end_ms == max(word.end_ms for word in segment.words)
