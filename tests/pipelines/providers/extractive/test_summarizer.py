"""Summaries made of sentences that were said."""

from collections.abc import Mapping, Sequence

from pipelines.providers.base import NOTHING_SAID
from pipelines.providers.extractive.summarizer import Extractive
from schemas.artifacts import Segment, Transcript
from tests.speech import demo_call

# What a reader would want to know of each demo call, as fragments of how it is said or written down.
FACTS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "broadband_outage": [
        ("internet has been down",),
        ("flashing red", "restarted"),
        ("street cabinet",),
        ("Thursday",),
        ("credit",),
        ("cancellation list",),
    ],
    "clinic_reschedule": [
        ("need to move it",),
        ("14th of March",),
        ("Friday the 22nd", "Friday would", "Friday will"),
        ("insurance", "plan covers"),
        ("reminder", "email address"),
        ("ten minutes early", "10 minutes early", "new form"),
    ],
}


def transcript(*turns: str, language: str = "en") -> Transcript:
    """A call in which the speakers take turns, the inbound one first."""
    segments = [
        Segment(
            start_ms=1000 * index,
            end_ms=1000 * index + 900,
            channel=index % 2,
            speaker=("inbound", "outbound")[index % 2],
            text=text,
        )
        for index, text in enumerate(turns)
    ]
    return Transcript(
        call_id="CA1",
        language=language,
        duration_ms=1000 * len(turns),
        provider="whisper",
        model="base",
        segments=segments,
    )


async def test_the_demo_calls_in_short(transcripts: Mapping[str, Transcript]) -> None:
    """Of six facts in each call the four sentences of the abstract must have at least four, the key points as well.
    Five were measured: fewer than four means that it chooses small talk."""
    for name, facts in FACTS.items():
        summary = Extractive().summary_of(transcripts[name])

        for text in (summary.abstract, " ".join(summary.key_points)):
            found = [fact for fact in facts if any(wording in text for wording in fact)]
            assert len(found) >= 4, (name, text)


async def test_only_what_was_said_by_whom_it_was_said(transcripts: Mapping[str, Transcript]) -> None:
    """Every line is "speaker: sentence", and the sentence stands so in a segment of that speaker. A summary that says
    what nobody said, or gives it to the other, is worse than none."""
    for call in transcripts.values():
        summary = Extractive().summary_of(call)
        for line in [*summary.key_points, *summary.action_items]:
            speaker, _, sentence = line.partition(": ")
            assert any(segment.speaker == speaker and sentence in segment.text for segment in call.segments)


async def test_promises_and_requests_are_action_items(transcripts: Mapping[str, Transcript]) -> None:
    """The agents promise a credit and a reminder and ask for early arrival; "please bear with me" and "can you confirm
    your date of birth" are done with before the call ends and are none."""
    broadband = "\n".join(Extractive().summary_of(transcripts["broadband_outage"]).action_items)
    clinic = "\n".join(Extractive().summary_of(transcripts["clinic_reschedule"]).action_items)

    assert "credit" in broadband
    assert "reminder" in clinic
    assert "early" in clinic
    assert "bear with me" not in broadband
    assert "date of birth" not in clinic


async def test_nothing_said() -> None:
    """An empty transcript: one honest sentence, no points, no actions."""
    summary = Extractive().summary_of(transcript())

    assert (summary.abstract, summary.key_points, summary.action_items) == (NOTHING_SAID, [], [])


async def test_one_word() -> None:
    """A call of one word is its own summary."""
    summary = Extractive().summary_of(transcript("Hello?"))

    assert summary.abstract == "inbound: Hello?"
    assert summary.key_points == ["inbound: Hello?"]


async def test_the_same_call_has_the_same_summary() -> None:
    """Made twice, it is the same to the letter, also where sentences are equally good: a replay must not change what
    people have read."""
    call = transcript(*(f"The {name} is out of stock." for name in ("lamp", "chair", "table", "sofa", "shelf", "desk")))

    assert Extractive().summary_of(call) == Extractive().summary_of(call)


async def test_other_languages_and_scripts() -> None:
    """German, Japanese without spaces, and punctuation only: key sentences are found, no cue is guessed at, and
    nothing fails."""
    german = Extractive().summary_of(
        transcript("Mein Internet geht seit gestern nicht.", "Ich schicke Ihnen am Donnerstag einen Techniker.")
    )
    japanese = Extractive().summary_of(
        transcript("予約を変更したいです。金曜日は空いていますか。", "はい。", language="ja")
    )
    dots = Extractive().summary_of(transcript("...", "?!"))

    assert "Techniker" in german.abstract
    assert german.action_items == []
    assert "inbound: 予約を変更したいです。" in japanese.key_points
    assert dots.action_items == []


async def test_a_long_call_takes_no_minutes() -> None:
    """Three hours of talk, 4,000 sentences: the points stay few, and it is done within the test's time."""
    turns = [turn.text for name in FACTS for turn in demo_call(name).turns]
    summary = Extractive().summary_of(transcript(*(f"{turns[i % len(turns)]} {i}." for i in range(1500))))

    assert len(summary.key_points) == 10
    assert len(summary.action_items) <= 10
