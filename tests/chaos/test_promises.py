"""The judge notices: each test takes a run in which all is well and breaks one thing."""

from collections import Counter
from dataclasses import replace

from gateway.carriers.base import Frame
from schemas.events import ObjectRef, RecordingReady, StreamEnded, StreamStarted, TranscriptReady
from schemas.media import MediaRecord, RecordType
from schemas.topics import Topic
from tests.chaos.carrier import Call, Ending, Stream
from tests.chaos.log_reader import Tape
from tests.chaos.plans import plans
from tests.chaos.promises import (
    Finding,
    GatewayEnd,
    Measured,
    Wrong,
    audio_on_the_log,
    kept_orders,
    orders,
    refusals,
    results,
    stream_events,
)
from tests.chaos.truth import Part

PLAN = plans(1, 1, 10.0)[0]
CALL = PLAN.call_id
REF = ObjectRef(key="k", sha256="s", size=1)


def call(*, ending: Ending = Ending.STOPPED, frames: int = 10) -> Call:
    """A call of 200 ms whose frames left at 100.02, 100.04, …"""
    stream = Stream("MZ1", began=100.0, digits=0, ending=ending, ended=100.02 + frames * 0.02)
    stream.sent = [(100.02 + n * 0.02, Frame("inbound", n + 1, n * 20, bytes([n]) * 160)) for n in range(frames)]
    return Call(PLAN, streams=[stream])


def tape_of(made: Call, *, frames: int | None = None) -> Tape:
    """What the log has of it: its first so many frames."""
    tape = Tape()
    for offset, (_, frame) in enumerate(made.streams[0].sent[:frames]):
        record = MediaRecord(
            RecordType.MEDIA, CALL, "t", "twilio", "MZ1", 0, "inbound", ts_ms=frame.ts_ms, payload=frame.payload
        )
        tape.media[CALL].append((offset, record))
    common = {"call_id": CALL, "tenant": "t", "occurred_at_ms": 0, "stream_id": "MZ1"}
    started = StreamStarted(event_id="1", carrier="twilio", tracks=[], codec="PCMU", rate_hz=8000, **common)
    tape.events[Topic.CALL_EVENTS] = [started, StreamEnded(event_id="2", reason="", **common)]
    return tape


def kinds(*findings: Finding) -> Counter[Wrong]:
    """How often each kind of broken promise was found."""
    return Counter(finding.kind for finding in findings)


def heard(made: Call, tape: Tape, *ends: GatewayEnd) -> tuple[Counter[Wrong], Measured]:
    """What is found about a call's audio."""
    measured = Measured()
    return kinds(*audio_on_the_log([made], ends, tape, measured)), measured


def test_all_is_well() -> None:
    """Nothing is found where nothing is wrong."""
    made = call()
    assert not heard(made, tape_of(made))[0]
    assert not list(stream_events([made], [], tape_of(made), Measured()))


def test_a_frame_that_never_came_is_missing() -> None:
    """Nine of ten frames are on the log, and nobody had touched the gateway."""
    made = call()
    assert heard(made, tape_of(made, frames=9))[0] == {Wrong.MISSING: 1}


def test_a_frame_that_was_never_sent_is_wrong() -> None:
    """The log has other octets than were sent: both the frame and its replacement are named."""
    made = call()
    tape = tape_of(made)
    offset, record = tape.media[CALL][3]
    tape.media[CALL][3] = (offset, replace(record, payload=b"\xff" * 160))
    assert heard(made, tape)[0] == {Wrong.AUDIO: 1, Wrong.MISSING: 1}


def test_a_killed_gateway_may_lose_its_last_moments_and_no_more() -> None:
    """The last 100 ms of a call are lost: allowed to one that was killed 50 ms after them, and measured; not allowed
    if the bound were 40 ms."""
    made = call(ending=Ending.BROKEN)
    found, measured = heard(made, tape_of(made, frames=5), GatewayEnd(100.25, 1.0))
    assert not found
    assert (measured.lost_ms, round(measured.oldest_lost_s, 2)) == (100, 0.13)
    assert heard(made, tape_of(made, frames=5), GatewayEnd(100.25, 0.04))[0] == {Wrong.MISSING: 1}


def test_a_call_that_is_broken_without_cause_is_found() -> None:
    """The gateway hung up, and nobody had touched it: not a frame is lost, but it is not right."""
    made = call(ending=Ending.BROKEN)
    assert heard(made, tape_of(made))[0] == {Wrong.DISTURBED: 1}


def test_a_refusal_is_excused_only_by_a_gateway_that_had_just_ended() -> None:
    """Refused 5 s after its end: it is being started. Refused without one: found."""
    made = call()
    made.refused.append(90.0)
    assert not list(refusals([made], [GatewayEnd(85.0, 1.0)], Measured()))
    assert kinds(*refusals([made], [], Measured())) == {Wrong.DISTURBED: 1}


def test_an_end_told_twice_under_two_ids_is_doubled() -> None:
    """The same event twice is one event; another event of the same end is one too many."""
    made = call()
    tape = tape_of(made)
    end = tape.events[Topic.CALL_EVENTS][1]
    tape.events[Topic.CALL_EVENTS].append(end)
    assert not list(stream_events([made], [], tape, Measured()))
    tape.events[Topic.CALL_EVENTS].append(end.model_copy(update={"event_id": "3"}))
    assert kinds(*stream_events([made], [], tape, Measured()))[Wrong.DOUBLED] == 1


def test_an_end_that_was_never_told_is_missing_unless_the_gateway_ended_with_it() -> None:
    """The carrier hung up, and the log was not told: missing. Told nothing because the gateway was killed half a second
    later: allowed, as is what it loses of the audio. Ten seconds later: missing again."""
    made = call()
    tape = tape_of(made)
    tape.events[Topic.CALL_EVENTS].pop()
    assert kinds(*stream_events([made], [], tape, Measured())) == {Wrong.MISSING: 1}
    assert not list(stream_events([made], [GatewayEnd(100.7, 1.0)], tape, Measured()))
    assert kinds(*stream_events([made], [GatewayEnd(110.0, 1.0)], tape, Measured())) == {Wrong.MISSING: 1}


def test_results_missing_doubled_and_of_nobody_are_found() -> None:
    """A part without a transcript; two different recordings of one part; a recording of a part there never was."""
    tape = Tape()

    def ready(event_id: str, part: int) -> RecordingReady:
        return RecordingReady(
            event_id=event_id, call_id=CALL, tenant="t", part=part, occurred_at_ms=0, carrier="", audio=REF, peaks=REF,
            manifest=REF, duration_ms=0, rate_hz=8000, tracks=[], started_at_ms=0, ended_at_ms=0, close_reason="",
        )  # fmt: skip

    tape.events[Topic.RECORDING_READY] = [ready("1", 1), ready("1", 1), ready("2", 1), ready("3", 2)]
    found = kinds(*results(tape, {CALL: [Part(1)]}, Measured()))
    assert found == {Wrong.DOUBLED: 1, Wrong.ORPHAN: 1, Wrong.MISSING: 4}


def test_an_order_too_many_or_too_few_is_found() -> None:
    """A job ordered twice is paid twice; one whose transcript nobody has was paid for nothing; and a transcript that
    was never ordered came from somewhere else."""
    tape = Tape()
    tape.events[Topic.TRANSCRIPT_READY] = [
        TranscriptReady(
            event_id=key, call_id=CALL, tenant="t", occurred_at_ms=0, transcript_id=key, transcript=REF,
            recording_sha256="", language="en", duration_ms=1000, provider="soniox", model="m", segments=0, words=0,
            engine_ms=0, call_started_at_ms=0,
        )
        for key in ("once", "twice", "never")
    ]  # fmt: skip
    assert kinds(*orders(tape, {"once": 1, "twice": 2, "nobody's": 1}, Measured())) == {
        Wrong.CHARGE: 1,
        Wrong.ORPHAN: 1,
        Wrong.MISSING: 1,
    }
    assert not list(orders(tape, {"once": 1, "twice": 1, "never": 1}, Measured()))


def test_an_order_that_nobody_is_going_to_delete_is_found() -> None:
    """The provider keeps two orders, one of which is noted down to be deleted: the other would stay there for ever."""
    assert kinds(*kept_orders({"noted", "forgotten"}, {"noted", "gone since"})) == {Wrong.ORPHAN: 1}
    assert not list(kept_orders({"noted"}, {"noted"}))
