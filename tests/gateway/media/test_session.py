"""Tests of a session without a socket: the records and events for each message."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.carriers.twilio import TwilioDecoder
from gateway.media.session import EARLY_MESSAGES, EARLY_OTHER_MESSAGES, Session, SessionClosedError, StreamKey
from gateway.metrics import Metrics
from schemas.events import DtmfReceived, StreamEnded, StreamStarted
from schemas.media import EosReason, RecordType
from tests.support.twilio_messages import MemorySink, dtmf, media, media_of, start, stop


def new_session(
    sink: MemorySink,
    *,
    streams: Counter[StreamKey] | None = None,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Session:
    """Returns a Twilio session of tenant acme with a limit of twice real time."""
    return Session(
        name="twilio",
        decoder=TwilioDecoder(),
        admit=lambda start: ("acme", start),
        sink=sink,
        metrics=metrics or Metrics(),
        streams=Counter() if streams is None else streams,
        gateway="g1",
        merge_ms=500,
        alive_s=30,
        max_speed=2,
        clock=clock,
    )


def test_a_call_in_order() -> None:
    """Plays a short call: records and events come in order, with the fields that their readers need."""
    sink = MemorySink()
    session = new_session(sink)
    for message in (start(custom={"agent": "7"}), media(0), dtmf("5"), media(1), stop()):
        session.on_text(message)
    assert [record.type for record in sink.records] == [
        RecordType.START,
        RecordType.DTMF,
        RecordType.MEDIA,
        RecordType.EOS,
    ]
    begun, digit, audio, end = sink.records
    assert [record.gateway for record in sink.records] == ["g1", "", "", "g1"]
    assert json.loads(begun.payload) == {
        "account": "AC1",
        "tracks": ["inbound", "outbound"],
        "from_number": "",
        "to_number": "",
        "custom": {"agent": "7"},
    }
    assert (digit.detail, digit.track, digit.seq) == ("5", "inbound", 5)
    assert (audio.seq, audio.ts_ms, audio.frames, len(audio.payload)) == (2, 0, 2, 320)
    assert end.detail == EosReason.CARRIER_STOP
    started, pressed, ended = sink.events
    assert isinstance(started, StreamStarted)
    assert (started.carrier, started.codec, started.rate_hz) == ("twilio", "PCMU", 8000)
    assert isinstance(pressed, DtmfReceived)
    assert isinstance(ended, StreamEnded)
    assert (ended.reason, ended.frames) == ("carrier-stop", 2)


def test_the_start_record_and_its_event_have_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts a stream with a clock that advances at each read: record and event have the same time.

    If the event is 1 ms later, a call whose start is its only record seems to continue after its recording, for ever.
    """
    clock = itertools.count(1_764_000_000_000)
    monkeypatch.setattr("gateway.media.session._now_ms", lambda: next(clock))
    sink = MemorySink()
    new_session(sink).on_text(start())
    assert sink.records[0].at_ms == sink.events[0].occurred_at_ms


def test_the_first_end_counts() -> None:
    """Stops a stream, then closes the socket and sends more frames: one end, with the carrier's reason, is last."""
    sink = MemorySink()
    session = new_session(sink)
    for message in (start(), media(0), stop(), media(1), stop()):
        session.on_text(message)
    session.end(EosReason.SOCKET_CLOSED)
    assert [record.type for record in sink.records][-1] is RecordType.EOS
    assert len(media_of(sink.records)) == 1
    assert [event.type for event in sink.events if isinstance(event, StreamEnded)] == ["stream.ended"]


def test_the_same_fact_has_the_same_event_id() -> None:
    """Plays the same call twice: the event ids are equal, so that consumers count it once.

    Another stream of the call has other ids.
    """
    ids = []
    for stream in ("MZ1", "MZ1", "MZ2"):
        sink = MemorySink()
        session = new_session(sink)
        for message in (start(stream_id=stream), dtmf("1", stream_id=stream), stop(stream)):
            session.on_text(message)
        ids.append([event.event_id for event in sink.events])
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])


def test_a_second_start_is_ignored() -> None:
    """Sends start twice on one socket: the first is valid, the second is counted as malformed."""
    sink, metrics = MemorySink(), Metrics()
    session = new_session(sink, metrics=metrics)
    for message in (start("CA1"), start("CA2"), stop()):
        session.on_text(message)
    assert {record.call_id for record in sink.records} == {"CA1"}
    assert b'malformed_messages_total{carrier="twilio"} 1.0' in metrics.render()


def test_a_mark_with_a_long_name_is_ignored() -> None:
    """Sends marks with names of 100 and 10,000 characters: the second is counted as malformed.

    The name is a header on the log. One that does not fit into a journal would stop the recorder.
    """
    sink, metrics = MemorySink(), Metrics()
    session = new_session(sink, metrics=metrics)
    session.on_text(start())
    for length in (100, 10_000):
        told = {"event": "mark", "sequenceNumber": "3", "streamSid": "MZ1", "mark": {"name": "x" * length}}
        session.on_text(json.dumps(told).encode())
    assert [len(record.detail) for record in sink.records if record.type is RecordType.MARK] == [100]
    assert b'malformed_messages_total{carrier="twilio"} 1.0' in metrics.render()


def test_a_stream_with_two_sockets_ends_with_the_last() -> None:
    """Opens two sockets for one stream and ends them in turn: one end, after the audio of both."""
    sink = MemorySink()
    streams: Counter[StreamKey] = Counter()
    sessions = [new_session(sink, streams=streams) for _ in range(2)]
    for number, session in enumerate(sessions):
        session.on_text(start())
        session.on_text(media(number))
    sessions[0].end(EosReason.SOCKET_CLOSED)
    assert RecordType.EOS not in {record.type for record in sink.records}
    sessions[1].end(EosReason.CARRIER_STOP)
    assert [record.type for record in sink.records][-2:] == [RecordType.MEDIA, RecordType.EOS]
    assert not streams


def test_audio_before_the_start_is_limited() -> None:
    """Sends too many frames without a start: the session is closed, and nothing is on the log."""
    sink = MemorySink()
    session = new_session(sink)
    for number in range(EARLY_MESSAGES):
        session.on_text(media(number))
    with pytest.raises(SessionClosedError) as closed:
        session.on_text(media(EARLY_MESSAGES))
    assert (closed.value.code, closed.value.label) == (1002, "no-start")
    session.end(EosReason.PROTOCOL_ERROR)
    assert sink.items == []


def test_audio_before_the_start_is_limited_in_bytes() -> None:
    """Sends frames of 40 kB without a start: the session is closed long before 500 of them, which are 20 MB."""
    session = new_session(MemorySink())
    large = media(0).replace(b'"payload": "', b'"payload": "' + b"AAAA" * 10_000)

    def flood() -> None:
        for _ in range(20):
            session.on_text(large)

    with pytest.raises(SessionClosedError, match="bytes of audio"):
        flood()


def test_a_flood_of_audio_ends_with_the_message_that_is_too_much() -> None:
    """Sends frames of one second as fast as it can, where twice the speed of real time is allowed: ten seconds of
    both tracks may come at once, as from a carrier that was late, and not one more; ten seconds later there is room for
    forty more. Looked at only now and then, a flood would cost us whatever comes in between."""
    now_s = [0.0]
    session = new_session(MemorySink(), clock=lambda: now_s[0])
    session.on_text(start())
    second = media(0).replace(b'"payload": "', b'"payload": "' + b"AAAA" * 2_614)  # 8002 octets
    for _ in range(20):
        session.on_text(second)
    with pytest.raises(SessionClosedError, match="AUDIOTEXT_GATEWAY__MAX_SPEED") as closed:
        session.on_text(second)
    assert (closed.value.code, closed.value.label) == (1008, "too-fast")
    now_s[0] = 10.0
    for _ in range(40):
        session.on_text(second)
    with pytest.raises(SessionClosedError, match="AUDIOTEXT_GATEWAY__MAX_SPEED"):
        session.on_text(second)


def test_a_flood_of_small_messages_is_closed() -> None:
    """Sends messages without audio, faster than any call: the session is closed."""
    session = new_session(MemorySink(), clock=lambda: 0.0)
    session.on_text(start())
    for _ in range(1_999):
        session.on_text(b'{"event":"connected"}')
    with pytest.raises(SessionClosedError, match="MAX_SPEED"):
        session.on_text(b'{"event":"connected"}')


@pytest.mark.parametrize("said", [b"nonsense", b'{"event":"connected"}'])
def test_talk_without_a_start_is_not_heard_for_long(said: bytes) -> None:
    """Sends what is no message of the carrier's, or says hello again and again: after 20 the session gives up, for
    nobody has proved anything yet. In a stream that has begun such things are passed over, however many: a call is not
    lost for them."""
    session = new_session(MemorySink())
    for _ in range(EARLY_OTHER_MESSAGES):
        session.on_text(said)
    with pytest.raises(SessionClosedError, match="no start among the first 21 messages") as closed:
        session.on_text(said)
    assert (closed.value.code, closed.value.label) == (1002, "no-start")
    other = new_session(MemorySink())
    other.on_text(start())
    for _ in range(10 * EARLY_OTHER_MESSAGES):
        other.on_text(said)


def test_frames_are_counted() -> None:
    """Plays frames and reads the metrics: frames and bytes are counted in batches, and complete at the end."""
    sink, metrics = MemorySink(), Metrics()
    session = new_session(sink, metrics=metrics)
    for message in (start(), *(media(number) for number in range(30))):
        session.on_text(message)
    session.end(EosReason.SOCKET_CLOSED)
    text = metrics.render()
    assert b'frames_total{carrier="twilio"} 30.0' in text
    assert b'audio_bytes_total{carrier="twilio"} 4800.0' in text
    assert b"streams_live 0.0" in text


def test_digits_without_numbers_are_separate() -> None:
    """Sends the digits 1, 1 and 2 without sequence numbers: three events, numbered in order.

    With one event id for all, consumers would take the second and third for repetitions of the first.
    """
    sink = MemorySink()
    session = new_session(sink)
    session.on_text(start())
    for digit in "112":
        session.on_text(json.dumps({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": digit}}).encode())
    digits = [event for event in sink.events if isinstance(event, DtmfReceived)]
    assert [(event.digit, event.seq, event.number) for event in digits] == [("1", 0, 1), ("1", 0, 2), ("2", 0, 3)]
    assert len({event.event_id for event in digits}) == 3


def test_a_silent_stream_is_reported_to_be_alive() -> None:
    """Starts a stream that is silent for two minutes: every 30 s a record reports that it is open.

    There is none after its end. Without these records the recorder closes a call on hold.
    """
    now = [0.0]
    sink = MemorySink()
    session = new_session(sink, clock=lambda: now[0])
    session.tick(0.0)
    session.on_text(start())
    for second in range(1, 121):
        now[0] = float(second)
        session.tick(now[0])
    assert [record.type for record in sink.records] == [RecordType.START, *[RecordType.ALIVE] * 4]
    session.on_text(media(0))
    session.on_text(stop())
    now[0] = 600.0
    session.tick(now[0])
    assert [record.type for record in sink.records][5:] == [RecordType.MEDIA, RecordType.EOS]
    assert {record.stream_id for record in sink.records} == {"MZ1"}


def test_parameters_name_the_parties() -> None:
    """Starts a Twilio stream whose parameters name the parties: the record and the event have them."""
    sink = MemorySink()
    new_session(sink).on_text(start(custom={"audiotext_from": "+15550100", "To": "+15550199"}))
    begun = json.loads(sink.records[0].payload)
    event = sink.events[0]
    assert isinstance(event, StreamStarted)
    assert (begun["from_number"], begun["to_number"]) == ("+15550100", "+15550199")
    assert (event.from_number, event.to_number) == ("+15550100", "+15550199")
    assert event.custom == {"To": "+15550199"}
