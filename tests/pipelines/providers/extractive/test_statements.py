"""Statements made of turns."""

from pipelines.providers.extractive.parties import parties_of
from pipelines.providers.extractive.statements import Statement, as_sentence, statements_of, turns_of
from schemas.artifacts import Segment, Transcript


def call(*said: tuple[str, str]) -> Transcript:
    """Returns a transcript of (speaker, text)."""
    segments = [
        Segment(start_ms=index, end_ms=index + 1, channel=speaker == "outbound", speaker=speaker, text=text)
        for index, (speaker, text) in enumerate(said)
    ]
    return Transcript(call_id="c", language="en", duration_ms=9, provider="p", model="m", segments=segments)


def statements(*said: tuple[str, str]) -> list[Statement]:
    """Returns the statements of a call."""
    turns = turns_of(call(*said))
    return statements_of(turns, parties_of([(turn.speaker, turn.text) for turn in turns]))


def test_segments_of_a_speaker_are_one_turn() -> None:
    """Whisper cuts a sentence where the speaker breathes; silent segments are nothing."""
    turns = turns_of(
        call(("inbound", "My parcel"), ("inbound", "is late."), ("outbound", "  "), ("outbound", "I see."))
    )

    assert [(turn.speaker, turn.text) for turn in turns] == [("inbound", "My parcel is late."), ("outbound", "I see.")]


def test_the_reason_is_what_somebody_calls_about() -> None:
    """The clause with "I'm calling about" is the reason, not the one before it; it counts most."""
    found = statements(
        ("inbound", "I was in your shop last week on Tuesday. I'm calling about my broken lamp."),
        ("outbound", "The lamp has a guarantee of two years."),
    )

    assert [one.text for one in found if one.reason] == ["The customer is calling about their broken lamp"]
    assert max(found, key=lambda one: one.factor).reason


def test_a_shorter_wording_is_of_the_same_group() -> None:
    """A statement that can lose a part comes with it and without it, and both are one for the choice."""
    found = statements(
        ("inbound", "My lamp broke."), ("outbound", "I've ordered a new lamp for Monday, because the old one broke.")
    )
    actions = [one for one in found if one.owner]

    assert [one.line for one in actions] == [
        "The agent: ordered a new lamp for Monday, because the old one broke",
        "The agent: ordered a new lamp for Monday",
    ]
    assert len({one.group for one in actions}) == 1


def test_sentences() -> None:
    """A sentence has a capital and one end."""
    assert [as_sentence(text) for text in ("it broke", "Did it?", "it broke,")] == ["It broke.", "Did it?", "It broke."]
