"""What becomes searchable."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.embed.chunking import chunks_of
from schemas.artifacts import Segment, Transcript, Word


def segment(text: str, *, start_ms: int = 0, words: bool = True) -> Segment:
    """A turn of 100 ms a word."""
    spoken = text.split()
    return Segment(
        start_ms=start_ms,
        end_ms=start_ms + 100 * len(spoken),
        channel=1,
        speaker="outbound",
        text=text,
        words=[
            Word(start_ms=start_ms + 100 * i, end_ms=start_ms + 100 * (i + 1), text=word, confidence=1.0)
            for i, word in enumerate(spoken)
        ]
        if words
        else [],
    )


def transcript(*segments: Segment) -> Transcript:
    """A transcript of these segments."""
    return Transcript(
        call_id="CA1", language="en", duration_ms=60_000, provider="p", model="m", segments=list(segments)
    )


def test_a_turn_is_one_piece_with_its_place() -> None:
    """A turn of ordinary length: its own text, times, channel and speaker, for a hit must lead to the place."""
    [piece] = chunks_of(transcript(segment("I can book an engineer. Would that work?", start_ms=5_000)))

    assert piece.text == "I can book an engineer. Would that work?"
    assert (piece.start_ms, piece.end_ms, piece.channel, piece.speaker) == (5_000, 5_800, 1, "outbound")


def test_small_talk_is_left_out() -> None:
    """ "Okay." and "Bye." would be found by every short query; a one-word answer with substance stays."""
    pieces = chunks_of(transcript(segment("Okay."), segment("Bye."), segment("..."), segment("Cancellation.")))

    assert [piece.text for piece in pieces] == ["Cancellation."]


def test_a_long_turn_is_cut_between_sentences_with_the_times_of_its_words() -> None:
    """Twelve sentences of ten words: pieces of whole sentences, each with the times of its own words. Were the times
    the turn's, a hit in the last sentence would play from the first."""
    sentence = "one two three four five six seven eight nine ten."
    pieces = chunks_of(transcript(segment(" ".join([sentence] * 12))))

    assert len(pieces) > 1
    for piece in pieces:
        assert piece.text.endswith("ten.")
        assert piece.end_ms - piece.start_ms == 100 * len(piece.text.split())
    assert [piece.start_ms for piece in pieces[1:]] == [piece.end_ms for piece in pieces[:-1]]


def test_without_words_the_turn_says_when() -> None:
    """An engine that gives no words: the turn's own times are all that is known."""
    [piece] = chunks_of(transcript(segment("Where is my order now?", start_ms=700, words=False)))

    assert (piece.start_ms, piece.end_ms) == (700, 1_200)


@given(st.lists(st.text(alphabet=st.sampled_from("abc.。 "), max_size=900), max_size=3))
def test_every_word_is_in_one_piece(texts: list[str]) -> None:
    """Whatever is said, also a thousand letters without a space or a full stop: no piece is longer than the model can
    take, and together they are all that was said, small talk aside."""
    for text in texts:
        pieces = chunks_of(transcript(segment(text)))

        assert all(len(piece.text) <= 360 for piece in pieces)
        letters = sum(char.isalpha() for piece in pieces for char in piece.text)
        left_out = sum(char.isalpha() for char in text) - letters
        assert 0 <= left_out < 6 * (len(text) // 300 + 1)
