"""The checks of the chaos suite: each test takes a correct run and breaks one thing."""

from collections import Counter
from dataclasses import replace

from gateway.carriers.base import Frame
from schemas.events import ObjectRef, RecordingReady, StreamEnded, StreamStarted, TranscriptReady
from schemas.media import MediaRecord, RecordType
from schemas.topics import Topic
from tests.chaos.carrier import Call, Ending, Stream
from tests.chaos.log_reader import LogCopy
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
    """Returns a call of 200 ms whose frames left at 100.02, 100.04, …"""
    stream = Stream("MZ1", began=100.0, digits=0, ending=ending, ended=100.02 + frames * 0.02)
    stream.sent = [(100.02 + n * 0.02, Frame("inbound", n + 1, n * 20, bytes([n]) * 160)) for n in range(frames)]
    return Call(PLAN, streams=[stream])


def log_copy_of(made: Call, *, frames: int | None = None) -> LogCopy:
    """Returns the log with the first frames of the call."""
    tape = LogCopy()
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
    """Returns the number of findings by kind."""
    return Counter(finding.kind for finding in findings)


def audio_findings(made: Call, tape: LogCopy, *ends: GatewayEnd) -> tuple[Counter[Wrong], Measured]:
    """Returns the findings for the audio of a call."""
    measured = Measured()
    return kinds(*audio_on_the_log([made], ends, tape, measured)), measured


def test_all_is_well() -> None:
    """Checks a correct run: there are no findings."""
    made = call()
    assert not audio_findings(made, log_copy_of(made))[0]
    assert not list(stream_events([made], [], log_copy_of(made), Measured()))


def test_a_frame_that_never_came_is_missing() -> None:
    """Removes one of ten frames, without a fault of the gateway: it is missing."""
    made = call()
    assert audio_findings(made, log_copy_of(made, frames=9))[0] == {Wrong.MISSING: 1}


def test_a_frame_that_was_never_sent_is_wrong() -> None:
    """Changes the bytes of a frame on the log: both the sent frame and its replacement are found."""
    made = call()
    tape = log_copy_of(made)
    offset, record = tape.media[CALL][3]
    tape.media[CALL][3] = (offset, replace(record, payload=b"\xff" * 160))
    assert audio_findings(made, tape)[0] == {Wrong.AUDIO: 1, Wrong.MISSING: 1}


def test_a_killed_gateway_may_lose_only_its_last_moments() -> None:
    """Removes the last 100 ms of a call, when the gateway was killed 50 ms later.

    This is allowed and measured. With a limit of 40 ms it is a finding.
    """
    made = call(ending=Ending.BROKEN)
    found, measured = audio_findings(made, log_copy_of(made, frames=5), GatewayEnd(100.25, 1.0))
    assert not found
    assert (measured.lost_ms, round(measured.oldest_lost_s, 2)) == (100, 0.13)
    assert audio_findings(made, log_copy_of(made, frames=5), GatewayEnd(100.25, 0.04))[0] == {Wrong.MISSING: 1}


def test_a_call_that_is_broken_without_cause_is_found() -> None:
    """Ends a stream by the gateway without a fault: no frame is lost, but it is a finding."""
    made = call(ending=Ending.BROKEN)
    assert audio_findings(made, log_copy_of(made))[0] == {Wrong.DISTURBED: 1}


def test_a_refusal_needs_a_gateway_that_just_ended() -> None:
    """Refuses a call 5 s after the end of the gateway, which is allowed, and without an end, which is a finding."""
    made = call()
    made.refused.append(90.0)
    assert not list(refusals([made], [GatewayEnd(85.0, 1.0)], Measured()))
    assert kinds(*refusals([made], [], Measured())) == {Wrong.DISTURBED: 1}


def test_an_end_under_two_ids_is_doubled() -> None:
    """Repeats the event of an end, which is one event, and adds another event of the same end, which is a finding."""
    made = call()
    tape = log_copy_of(made)
    end = tape.events[Topic.CALL_EVENTS][1]
    tape.events[Topic.CALL_EVENTS].append(end)
    assert not list(stream_events([made], [], tape, Measured()))
    tape.events[Topic.CALL_EVENTS].append(end.model_copy(update={"event_id": "3"}))
    assert kinds(*stream_events([made], [], tape, Measured()))[Wrong.DOUBLED] == 1


def test_a_missing_end_needs_a_gateway_that_ended_too() -> None:
    """Removes the event of an end.

    This is allowed if the gateway is killed half a second later, and a finding without a kill or if it comes ten
    seconds later.
    """
    made = call()
    tape = log_copy_of(made)
    tape.events[Topic.CALL_EVENTS].pop()
    assert kinds(*stream_events([made], [], tape, Measured())) == {Wrong.MISSING: 1}
    assert not list(stream_events([made], [GatewayEnd(100.7, 1.0)], tape, Measured()))
    assert kinds(*stream_events([made], [GatewayEnd(110.0, 1.0)], tape, Measured())) == {Wrong.MISSING: 1}


def test_missing_doubled_and_unknown_results_are_found() -> None:
    """Checks a part without a transcript, two recordings of one part, and a recording of an unknown part."""
    tape = LogCopy()

    def ready(event_id: str, part: int) -> RecordingReady:
        return RecordingReady(
            event_id=event_id, call_id=CALL, tenant="t", part=part, occurred_at_ms=0, carrier="", audio=REF, peaks=REF,
            manifest=REF, duration_ms=0, rate_hz=8000, tracks=[], started_at_ms=0, ended_at_ms=0, close_reason="",
        )  # fmt: skip

    tape.events[Topic.RECORDING_READY] = [ready("1", 1), ready("1", 1), ready("2", 1), ready("3", 2)]
    found = kinds(*results(tape, {CALL: [Part(1)]}, Measured()))
    assert found == {Wrong.DOUBLED: 1, Wrong.ORPHAN: 1, Wrong.MISSING: 4}


def test_an_order_too_many_or_too_few_is_found() -> None:
    """Checks a job ordered twice, an order without a transcript, and a transcript without an order."""
    tape = LogCopy()
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


def test_a_forgotten_order_is_found() -> None:
    """Keeps two orders at the provider, of which one is noted for deletion: the other is a finding."""
    assert kinds(*kept_orders({"noted", "forgotten"}, {"noted", "gone since"})) == {Wrong.ORPHAN: 1}
    assert not list(kept_orders({"noted"}, {"noted"}))
