"""A call's document from its events: what it says, and that order and repetition do not matter."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import AnyEvent, DtmfReceived, VersionChosen
from sinks.clickhouse.call_projection import Status, UsageLine, build_call, unique
from tests.support.call_events import T0, Call, line_of

CALL = Call("CA1")
LINE = line_of(CALL.usage())


def test_a_call_that_went_well_is_told_whole() -> None:
    """Builds a call from all its events and looks at every part of the document; anything missing would be missing in
    the API."""
    call = build_call(CALL.complete(), [LINE])

    assert (call.id, call.tenant, call.carrier, call.status) == ("CA1", "acme", "twilio", "complete")
    assert (call.started_at_ms, call.ended_at_ms, call.duration_ms) == (T0, T0 + 60_000, 60_000)
    assert (call.from_number, call.to_number) == ("+4930111", "+4930222")
    assert [(track.name, track.audio_ms) for track in call.tracks] == [("inbound", 60_000), ("outbound", 59_600)]
    assert call.summary is not None
    assert call.summary.action_items == ["call back"]
    assert call.times == {
        "recorded": T0 + 61_000,
        "transcribed": T0 + 65_000,
        "summarized": T0 + 65_200,
        "embedded": T0 + 65_300,
    }
    assert call.usage == [LINE]
    (part,) = call.parts
    assert part.recording == CALL.recording().audio
    assert part.transcript is not None
    assert part.transcript.object == CALL.transcript().transcript


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([CALL.started()], "live"),
        ([CALL.started(), CALL.ended()], "live"),
        ([CALL.started(), CALL.ended(), CALL.recording()], "recorded"),
        ([CALL.recording()], "recorded"),
        ([CALL.recording(), CALL.transcript()], "transcribed"),
        ([CALL.recording(), CALL.transcript(), CALL.embedding()], "transcribed"),
        ([CALL.recording(), CALL.transcript(), CALL.summary()], "summarized"),
        ([CALL.summary()], "summarized"),
        (CALL.complete(), "complete"),
        ([CALL.recording(), CALL.failed("transcribe")], "failed"),
        ([CALL.started(), CALL.failed("recorder")], "failed"),
        ([*CALL.complete(), CALL.failed("embed")], "complete"),
        ([*CALL.complete(), CALL.failed("analytics")], "complete"),
        ([*CALL.complete(), CALL.started(61_500, "MZ2")], "live"),
        ([*CALL.complete(), CALL.recording(90_000, part=2, start=61_500, end=80_000)], "recorded"),
        ([*CALL.complete(), CALL.recording(90_000, part=2), CALL.failed("transcribe", part=2)], "failed"),
    ],
)
def test_status(events: list[AnyEvent], status: Status) -> None:
    """Goes through the ways a call can stand: each step; a result whose forerunner's event is still on its way; a
    failure, one healed by a success, one that is not the call's; a stream after the recording, a second recording.
    The bill has the first part's line. A wrong one would tell a user that a call is done that is not, or the other way
    round."""
    assert build_call(events, [LINE]).status == status


def test_times_belong_to_the_version_that_counts() -> None:
    """A call is transcribed again 22 minutes later, and then the first version is chosen.

    The times are those of the first version: it was searchable right after its summary, not 22 minutes later. With the
    newer version, they are its times.
    """
    later = 1_320_000
    again = CALL.transcript(at=later).model_copy(update={"event_id": "t2", "transcript_id": "t2"})
    made_again = CALL.embedding(at=later + 300).model_copy(update={"event_id": "e2", "transcript_id": "t2"})
    first = CALL.transcript().transcript_id
    choice = VersionChosen(
        event_id="v1",
        call_id="CA1",
        tenant="acme",
        part=1,
        occurred_at_ms=T0 + later + 9_000,
        of="transcript",
        version_id=first,
    )
    both = [*CALL.complete(), again, made_again]
    assert build_call(both, [LINE]).times["embedded"] == T0 + later + 300
    times = build_call([*both, choice], [LINE]).times
    assert (times["transcribed"], times["embedded"]) == (T0 + 65_000, T0 + 65_300)


@pytest.mark.parametrize("lines", [[], [line_of(CALL.usage(part=2))]], ids=["no line", "another part's line"])
def test_a_call_is_not_complete_before_it_is_on_the_bill(lines: list[UsageLine]) -> None:
    """All events are there, the line of the bill is still on its way: the call is summarized. Who waits for complete
    and then reads the bill would find a call that cost nothing."""
    assert build_call(CALL.complete(), lines).status == "summarized"


def test_every_part_needs_its_own_line() -> None:
    """Two parts with all their events, first with one line, then with both: the call is as far as the part that is not
    billed yet."""
    events = [
        *CALL.complete(),
        CALL.recording(90_000, part=2, start=61_500, end=80_000),
        CALL.transcript(91_000, part=2),
        CALL.summary(92_000, part=2),
        CALL.embedding(92_000, part=2),
    ]

    assert build_call(events, [LINE]).status == "summarized"
    assert build_call(events, [LINE, line_of(CALL.usage(part=2))]).status == "complete"


def test_a_failure_says_which_stage_and_why() -> None:
    """A failed call names stage and reason, which the API shows; without them nobody could act."""
    call = build_call([CALL.recording(), CALL.failed("transcribe")])

    assert (call.failed_stage, call.failed_reason) == ("transcribe", "transcribe cannot")


def test_a_stream_that_starts_before_the_recording_is_told_still_makes_the_call_live() -> None:
    """The carrier reconnects just after the part was closed, while its recording is still being uploaded: the new
    stream began before `recording.ready` came true, yet is not in that recording. Compared with the wrong time the
    call would seem finished while somebody speaks."""
    events: list[AnyEvent] = [
        CALL.started(),
        CALL.ended(),
        CALL.started(60_700, "MZ2"),
        CALL.recording(61_000, end=60_000),
    ]

    assert build_call(events).status == "live"
    assert build_call(events).ended_at_ms is None


def test_parts_add_up() -> None:
    """Two recordings of a call: durations add, each part keeps its own, the first one's tracks are the call's."""
    events = [*CALL.complete(), CALL.recording(90_000, part=2, start=61_500, end=80_000)]

    call = build_call(events, [LINE])

    assert call.duration_ms == 60_000 + 18_500
    assert [(part.part, part.status, part.duration_ms) for part in call.parts] == [
        (1, "complete", 60_000),
        (2, "recorded", 18_500),
    ]
    assert call.tracks == call.parts[0].tracks
    assert call.ended_at_ms == T0 + 80_000


def test_the_first_telling_of_a_fact_counts() -> None:
    """A crash makes the recorder tell of a recording again, later: times stay those of the first telling, so that
    latencies do not grow by a replay, and the same row is kept as in ClickHouse."""
    again = CALL.recording(999_000)

    assert build_call([again, *CALL.complete()]) == build_call(CALL.complete())


EVENTS: list[AnyEvent] = [
    *CALL.complete(),
    CALL.started(61_500, "MZ2"),
    CALL.ended(80_000, "MZ2"),
    CALL.recording(81_000, part=2, start=61_500, end=80_000),
    CALL.transcript(85_000, part=2),
    CALL.summary(86_000, part=2),
    CALL.embedding(86_000, part=2),
    CALL.failed("transcribe"),
    CALL.failed("summarize", part=2),
    CALL.failed("embed", 70_001, part=2),
    CALL.recording(999_000),
]


@given(told=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=30), seed=st.integers())
def test_order_and_repetition_do_not_matter(told: list[AnyEvent], seed: int) -> None:
    """Takes any events of a call, tells them again, shuffled: the document is the same. If not, the API would answer
    differently before and after a redelivery."""
    again = [*told, *told]
    random.Random(seed).shuffle(again)

    assert build_call(again) == build_call(told)
    assert unique(again) == unique(told)


def test_a_call_says_why_it_ended_and_what_was_repaired() -> None:
    """Builds calls whose streams the carrier and the gateway ended, with damaged text: the document has the last
    stream's reason, none while a stream goes on, and every kind of repair once."""
    stopped, cut_off = CALL.ended(), CALL.ended(70_000, "MZ2", reason="idle")
    damaged = [
        event.model_copy(update={"repairs": kinds})
        for event, kinds in ((CALL.started(), ["lone-surrogate"]), (CALL.started(5, "MZ2"), ["invalid-utf-8"]))
    ]
    assert build_call([CALL.started()]).end_reason is None
    assert build_call([CALL.started(), stopped]).end_reason == "carrier-stop"
    assert build_call([CALL.started(), stopped, CALL.started(5, "MZ2")]).end_reason is None
    call = build_call([*damaged, stopped, cut_off])
    assert call.end_reason == "idle"
    assert call.repairs == ["invalid-utf-8", "lone-surrogate"]
    assert build_call(CALL.complete()).repairs == []


def test_a_webhook_names_the_parties_where_the_stream_does_not() -> None:
    """Builds a call whose stream names nobody, or only the caller, and whose webhooks name both: the document has both
    numbers, and the stream's own word first."""
    silent = CALL.started().model_copy(update={"from_number": "", "to_number": ""})
    half = silent.model_copy(update={"from_number": "+4930333"})
    report = CALL.reported("voice-request", at=-500).model_copy(update={"from_number": "+1", "to_number": "+2"})
    for stream, numbers in (
        (silent, ("+1", "+2")),
        (half, ("+4930333", "+2")),
        (CALL.started(), ("+4930111", "+4930222")),
    ):
        call = build_call([stream, report])
        assert (call.from_number, call.to_number) == numbers


def pressed(digits: str, *, at: int = 1_000, apart: int = 0, stream: str = "MZ1", first_seq: int = 0) -> list[AnyEvent]:
    """Digits of one stream, in the order in which they were pressed."""
    return [
        CALL.digit(digit, at + n * apart, stream, seq=first_seq and first_seq + n, number=n + 1)
        for n, digit in enumerate(digits)
    ]


def digits_of(events: list[AnyEvent]) -> str:
    """The digits of these events, in the order in which the call shows them, whatever order they are told in."""
    shown = set()
    for seed in range(20):
        mixed = list(events) * 2
        random.Random(seed).shuffle(mixed)
        shown.add("".join(event.digit for event in unique(mixed) if isinstance(event, DtmfReceived)))
    (one,) = shown
    return one


def test_digits_keep_the_order_in_which_they_were_pressed() -> None:
    """Shows digits that came in the same millisecond, with and without the carrier's numbers: in the order in which
    they were pressed. A PIN in another order is another PIN."""
    assert digits_of(pressed("8675309")) == "8675309"
    assert digits_of(pressed("8675309", first_seq=40)) == "8675309"
    assert digits_of([*CALL.complete(), *pressed("4711#")]) == "4711#"


def test_digits_that_overtook_each_other_are_put_right() -> None:
    """Shows digits whose messages came in another order than they were pressed: the carrier's numbers decide."""
    came = [CALL.digit("2", 1_000, seq=8, number=1), CALL.digit("1", 1_003, seq=7, number=2)]
    assert digits_of([*came, *pressed("3", at=1_500, first_seq=9)]) == "123"


def test_digits_after_a_reconnection_come_last() -> None:
    """Shows digits of a stream whose socket was cut, and whose numbers began again: those of the second socket are
    after those of the first."""
    assert digits_of([*pressed("12", first_seq=90), *pressed("34", at=9_000, first_seq=3)]) == "1234"


def test_digits_of_two_streams_are_in_the_order_of_time() -> None:
    """Shows digits of two streams of a call, pressed in turn: in the order of time."""
    first = pressed("135", at=1_000, apart=2_000, first_seq=50)
    second = pressed("246", at=2_000, apart=2_000, stream="MZ2", first_seq=1)
    assert digits_of([*first, *second]) == "123456"
