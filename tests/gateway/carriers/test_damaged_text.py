"""Tests of damaged text in messages: the call is recorded, its text repaired, and the repair reported."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from gateway.carriers import load_carriers
from gateway.carriers.base import IncomingRequest, Repaired, StreamStart
from gateway.carriers.common.json_wire import text, text_list, texts
from gateway.metrics import Metrics
from gateway.simulator.encoders import load_dialects
from schemas.events import StreamEnded, StreamStarted
from schemas.media import EosReason, RecordType
from tests.support.carrier_messages import CALL_ID, hear, new_decoder, session_for, spoken
from tests.support.twilio_messages import MemorySink

_SPEAK_JSON = sorted(load_dialects().keys() - {"audiosocket"})
_MARK = "a note that will be damaged"

# What the note is replaced with on the wire, and what it is afterwards.
_DAMAGES: dict[str, tuple[bytes, str]] = {
    "invalid-utf-8": (b"Andr\xe9 M\xfcller", "André Müller"),
    "lone-surrogate": (rb"cut \ud83d", "cut \ufffd"),
    "unescaped-text": (b'he said "no"', 'he said "no"'),
}


def call(carrier: str, damage: Callable[[bytes], bytes]) -> tuple[MemorySink, Metrics]:
    """Returns the items on the log for a call of 100 ms whose first message with the note was damaged."""
    dialect = load_dialects()[carrier]
    audio = dialect.formats[0]
    frame = np.zeros(audio.rate_hz * dialect.frame_ms // 1000, "<i2").tobytes()
    frames = [frame if audio.codec == "L16" else frame[::2]] * (100 // dialect.frame_ms)
    sink, metrics = MemorySink(), Metrics()
    for messages in spoken(carrier, audio, {"inbound": frames}, custom={"note": _MARK}):
        session = session_for(carrier, sink, metrics)
        for message in messages:
            octets = message.encode() if isinstance(message, str) else message
            if _MARK.encode() in octets:
                session.on_text(damage(octets))
            else:
                hear(session, message)
        session.end(EosReason.SOCKET_CLOSED)
    return sink, metrics


def started(sink: MemorySink) -> StreamStarted:
    """Returns the call's start."""
    (event,) = [event for event in sink.events if isinstance(event, StreamStarted)]
    return event


@pytest.mark.parametrize("carrier", _SPEAK_JSON)
@pytest.mark.parametrize("kind", _DAMAGES)
def test_a_call_with_damaged_metadata_is_recorded(carrier: str, kind: str) -> None:
    """Damages the metadata in a start: the call is recorded with all audio and repaired metadata.

    The repair is in the events and in the metric. If this fails, one character loses a whole call.
    """
    wire, note = _DAMAGES[kind]
    sink, metrics = call(carrier, lambda octets: octets.replace(_MARK.encode(), wire))
    event = started(sink)
    assert event.call_id == CALL_ID
    assert event.custom["note"] == note
    assert event.repairs == [kind]
    audio = [record for record in sink.records if record.type is RecordType.MEDIA]
    assert sum(record.frames for record in audio) == 100 // load_dialects()[carrier].frame_ms
    begun = next(record for record in sink.records if record.type is RecordType.START)
    assert json.loads(begun.payload)["custom"]["note"] == note
    (ended,) = [event for event in sink.events if isinstance(event, StreamEnded)]
    # Plivo repeats the metadata in every message.
    assert ended.repaired >= 1
    counted = f'repaired_messages_total{{carrier="{carrier}",kind="{kind}"}} {float(ended.repaired)}'
    assert counted.encode() in metrics.render()


@pytest.mark.parametrize("carrier", _SPEAK_JSON)
def test_a_call_with_text_before_the_start_is_recorded(carrier: str) -> None:
    """Adds a word before the JSON of the start: the call is recorded, and the repair is reported."""
    sink, _ = call(carrier, lambda octets: b"hello " + octets)
    assert started(sink).call_id == CALL_ID
    assert started(sink).repairs == ["text-around-json"]


@pytest.mark.parametrize("carrier", _SPEAK_JSON)
def test_an_intact_call_reports_no_repair(carrier: str) -> None:
    """Plays an intact call: no repair is reported."""
    sink, metrics = call(carrier, lambda octets: octets)
    assert started(sink).repairs == []
    assert b"repaired_messages_total{" not in metrics.render()


def test_damage_within_plivos_headers_is_reported() -> None:
    """Damages the JSON within Plivo's JSON, which itself stays intact: repaired and reported."""
    decoder = new_decoder("plivo")
    start = {
        "callId": "c",
        "streamId": "s",
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    }
    message = {"event": "start", "start": start, "extra_headers": r'{"note": "say "hi" \ud83d"}'}
    repaired, begun = decoder.text(json.dumps(message).encode())
    assert repaired == Repaired(("lone-surrogate", "unescaped-text"))
    assert isinstance(begun, StreamStart)
    assert begun.custom == {"note": 'say "hi" \ufffd'}
    message["extra_headers"] = "no JSON"
    (begun,) = decoder.text(json.dumps(message).encode())
    assert isinstance(begun, StreamStart)
    assert begun.custom == {"extra_headers": "no JSON"}


def test_damaged_text_in_any_message_is_repaired() -> None:
    """Damages Twilio's media, digit and mark messages: the audio, the digit and the mark are on the log."""
    sink = MemorySink()
    session = session_for("twilio", sink)
    for message in spoken("twilio", load_dialects()["twilio"].formats[0], {"inbound": [bytes(160)]}, digit="7")[0]:
        octets = message.encode() if isinstance(message, str) else message
        session.on_text(b"x" + octets)
    session.on_text(b'{"event": "mark", "mark": {"name": "caf\xe9"}}')
    assert [record.type for record in sink.records] == [
        RecordType.START,
        RecordType.DTMF,
        RecordType.MEDIA,
        RecordType.EOS,
    ]


_STARTS: dict[str, tuple[str, dict[str, object]]] = {
    "twilio": ("start", {"accountSid": None, "tracks": None, "customParameters": "none"}),
    "telnyx": ("start", {"from": None, "to": 15550100, "user_id": None, "client_state": {"a": 1}}),
    "exotel": ("start", {"from": None, "to": 15550100, "account_sid": 7, "custom_parameters": []}),
    "plivo": ("start", {"accountId": None, "tracks": "inbound"}),
    "jambonz": ("", {"from": None, "to": 15550100, "accountSid": None}),
    "vonage": ("", {"from": None, "to": 15550100}),
}


@pytest.mark.parametrize("carrier", _STARTS)
def test_a_field_of_another_type_does_not_fail_a_call(carrier: str) -> None:
    """Starts a call whose optional fields are null, numbers or objects: it is recorded.

    A number keeps its digits.
    """
    within, strange = _STARTS[carrier]

    def change(octets: bytes) -> bytes:
        message = json.loads(octets)
        target = message.get(within, {}) if within else message  # Plivo's metadata is in every message
        target.update(strange)
        return json.dumps(message).encode()

    sink, _ = call(carrier, change)
    event = started(sink)
    assert event.call_id == CALL_ID
    assert event.to_number == str(strange.get("to", ""))
    assert event.from_number == ""


@pytest.mark.parametrize(
    ("carrier", "body"),
    [
        ("jambonz", b'{"call_sid": "%s", "call_status": "completed", "sip_reason": "caf\xe9"}'),
        ("vonage", rb'{"uuid": "%s", "status": "completed", "reason": "\ud83d"}'),
        ("telnyx", b'{"data": {"event_type": "call.hangup", "payload": {"call_control_id": "%s", "x": "a "b""}}}'),
    ],
)
def test_a_damaged_webhook_still_ends_its_call(carrier: str, body: bytes) -> None:
    """Reports the end of a call in damaged text: the call ends. If this fails, it stays open."""
    proof = IncomingRequest(target=f"/v1/status/{carrier}", headers={}, body=body.replace(b"%s", CALL_ID.encode()))
    report = load_carriers()[carrier].report(proof)
    assert report is not None
    assert report.call_id == CALL_ID
    assert report.over
    report.reason.encode()


def test_a_broken_message_is_still_refused() -> None:
    """Sends messages beyond repair: the decoders refuse them with their own errors."""
    for carrier in _SPEAK_JSON:
        with pytest.raises(ValueError, match="malformed"):
            new_decoder(carrier).text(b'{"event": "start", "start": {')


def test_texts_of_any_value() -> None:
    """Reads values of every type as text."""
    assert [text(value) for value in ("a", None, 1, True, {"b": [2]})] == ["a", "", "1", "true", '{"b":[2]}']
    assert texts({"a": None, "b": 1}) == {"a": "", "b": "1"}
    assert texts(["a"]) == texts(None) == {}
    assert text_list(["a", 1, "b"]) == ("a", "b")
    assert text_list("a") == ()
