"""Every dialect's documented messages, and what they mean to a recording."""

import base64
import json
import struct
import uuid
from typing import Any

import pytest

from core.settings import PlivoSettings, Settings, TelnyxSettings
from gateway.carriers.base import (
    CarrierError,
    Dtmf,
    Frame,
    Ignored,
    Mark,
    Message,
    StartError,
    Stop,
    StreamStart,
    UnsupportedCodecError,
)
from schemas.media import Codec
from tests.support.carrier_messages import new_decoder

AUDIO = base64.b64encode(b"\x01\x02\x03\x04").decode()


def said(name: str, *messages: dict[str, Any] | bytes, settings: Settings | None = None) -> list[Message]:
    """What a new socket's messages mean: JSON as text, octets as binary."""
    decoder = new_decoder(name, settings or Settings())
    found: list[Message] = []
    for message in messages:
        if isinstance(message, bytes):
            found += decoder.binary(message)
        else:
            found += decoder.text(json.dumps(message).encode())
    return found


def telnyx_start(encoding: str = "PCMU", rate: int = 8000, channels: int = 1) -> dict[str, Any]:
    return {
        "event": "start",
        "sequence_number": "1",
        "stream_id": "32de",
        "start": {
            "user_id": "u1",
            "call_control_id": "v3:abc",
            "call_session_id": "s1",
            "from": "+15550100",
            "to": "+15550199",
            "tags": ["a"],
            "client_state": "aGk=",
            "media_format": {"encoding": encoding, "sample_rate": rate, "channels": channels},
        },
    }


def test_telnyx() -> None:
    """Telnyx' documents' messages: order is told by `chunk`, tracks are not announced, and a webhook's error passes."""
    found = said(
        "telnyx",
        {"event": "connected", "version": "1.0.0"},
        telnyx_start(),
        {
            "event": "media",
            "sequence_number": "4",
            "stream_id": "32de",
            "media": {"track": "outbound", "chunk": "2", "timestamp": "5", "payload": AUDIO},
        },
        {"event": "dtmf", "stream_id": "32de", "occurred_at": "now", "sequence_number": "5", "dtmf": {"digit": "1"}},
        {"event": "mark", "stream_id": "32de", "sequence_number": "6", "mark": {"name": "m"}},
        {"event": "error", "stream_id": "32de", "payload": {"code": 100003, "title": "malformed_frame"}},
        {"event": "stop", "sequence_number": "7", "stream_id": "32de", "stop": {"call_control_id": "v3:abc"}},
    )
    assert found == [
        Ignored("connected"),
        StreamStart(
            call_id="v3:abc",
            stream_id="32de",
            account="u1",
            tracks=(),
            codec=Codec.PCMU,
            rate_hz=8000,
            byte_order="big",
            from_number="+15550100",
            to_number="+15550199",
            custom={"call_session_id": "s1", "client_state": "aGk="},
        ),
        Frame("outbound", 2, 5, b"\x01\x02\x03\x04"),
        Dtmf("inbound", "1", 5),
        Mark("m", 6),
        Ignored("error"),
        Stop(),
    ]


@pytest.mark.parametrize(
    ("encoding", "rate", "codec", "rate_hz"),
    [
        ("audio/x-mulaw", 8000, Codec.PCMU, 8000),
        ("PCMA", 8000, Codec.PCMA, 8000),
        ("G722", 8000, Codec.G722, 16000),
        ("G722", 16000, Codec.G722, 16000),
        ("OPUS", 16000, Codec.OPUS, 16000),
        ("opus", 48000, Codec.OPUS, 48000),
        ("L16", 24000, Codec.L16, 24000),
    ],
)
def test_the_codec_comes_with_the_start(encoding: str, rate: int, codec: Codec, rate_hz: int) -> None:
    """Starts Telnyx streams in every codec and spelling: each is taken as what it is, G.722 with its true rate."""
    (start,) = said("telnyx", telnyx_start(encoding, rate))
    assert isinstance(start, StreamStart)
    assert (start.codec, start.rate_hz) == (codec, rate_hz)


@pytest.mark.parametrize(("encoding", "rate", "channels"), [("AMR-WB", 16000, 1), ("L16", 11025, 1), ("PCMU", 8000, 2)])
def test_a_codec_nobody_decodes_is_refused(encoding: str, rate: int, channels: int) -> None:
    """Starts Telnyx streams that cannot be recorded: refused with 1003, and the reason fits a close frame."""
    with pytest.raises(UnsupportedCodecError, match=encoding) as refused:
        said("telnyx", telnyx_start(encoding, rate, channels))
    assert (refused.value.close_code, refused.value.label) == (1003, "unsupported-codec")
    assert len(str(refused.value).encode()) <= 123


def test_byte_order_is_a_setting_where_carriers_leave_it_open() -> None:
    """Starts L16 streams with the order set the other way round: the start says so."""
    settings = Settings(telnyx=TelnyxSettings(l16_byte_order="little"), plivo=PlivoSettings(l16_byte_order="big"))
    (start,) = said("telnyx", telnyx_start("L16", 16000), settings=settings)
    assert isinstance(start, StreamStart)
    assert start.byte_order == "little"
    (start,) = said("plivo", plivo_start("audio/x-l16", 8000), settings=settings)
    assert isinstance(start, StreamStart)
    assert start.byte_order == "big"


@pytest.mark.parametrize(
    ("encoding", "rate", "rate_hz"),
    [("L16@16000h", 8000, 16000), ("audio/x-l16", 24000, 24000), ("audio/l16;rate=16000", 16000, 16000)],
)
def test_signalwire_is_twilio_with_linear_pcm(encoding: str, rate: int, rate_hz: int) -> None:
    """Starts SignalWire streams, which are Twilio's but for UUIDs and L16, however that is spelt."""
    call, stream = str(uuid.uuid4()), str(uuid.uuid4())
    start = {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": stream,
        "start": {
            "accountSid": "a",
            "streamSid": stream,
            "callSid": call,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": encoding, "sampleRate": rate, "channels": 1},
        },
    }
    (message,) = said("signalwire", start)
    assert message == StreamStart(call, stream, "a", ("inbound",), Codec.L16, rate_hz, byte_order="little")
    with pytest.raises(UnsupportedCodecError):
        said("twilio", start)


def plivo_start(encoding: str = "audio/x-mulaw", rate: int = 8000) -> dict[str, Any]:
    return {
        "event": "start",
        "sequenceNumber": 0,
        "start": {
            "callId": "c1",
            "streamId": "s1",
            "accountId": "100",
            "tracks": ["inbound", "outbound"],
            "mediaFormat": {"encoding": encoding, "sampleRate": rate},
        },
        "extra_headers": '{"X-PH-tenant": "acme"}',
    }


def plivo_media(number: int, timestamp: int, track: str = "inbound") -> dict[str, Any]:
    media = {"track": track, "timestamp": str(timestamp), "chunk": number, "payload": AUDIO}
    return {"event": "media", "sequenceNumber": number, "streamId": "s1", "media": media, "extra_headers": "{}"}


def test_plivo_counts_from_the_first_frame() -> None:
    """Plivo's messages: epoch timestamps become ms since the first frame, for both tracks alike, and a frame that was
    overtaken by the first lies before it instead of on top of it."""
    epoch = 1_790_000_000_000
    found = said(
        "plivo",
        plivo_start(),
        plivo_media(1, epoch + 20),
        plivo_media(2, epoch),
        plivo_media(3, epoch + 40, "outbound"),
        {"event": "dtmf", "sequenceNumber": 4, "streamId": "s1", "dtmf": {"track": "inbound", "digit": "#"}},
        {"event": "clearedAudio", "sequenceNumber": 5, "streamId": "s1"},
        {"event": "stop", "sequenceNumber": 6, "streamId": "s1"},
    )
    assert found == [
        StreamStart("c1", "s1", "100", ("inbound", "outbound"), Codec.PCMU, 8000, custom={"X-PH-tenant": "acme"}),
        Frame("inbound", 1, 0, b"\x01\x02\x03\x04"),
        Frame("inbound", 2, -20, b"\x01\x02\x03\x04"),
        Frame("outbound", 3, 20, b"\x01\x02\x03\x04"),
        Dtmf("inbound", "#", 4),
        Ignored("clearedAudio"),
        Stop(),
    ]
    (_, far) = said("plivo", plivo_media(1, epoch), plivo_media(2, 5))
    assert far == Frame("inbound", 2, 5 - epoch, b"\x01\x02\x03\x04"), "audio is not refused for its timestamp"


@pytest.mark.parametrize("encoding", ["audio/x-raw", "base64", "", "raw/slin", "audio/x-l16"])
def test_exotel(encoding: str) -> None:
    """Exotel's messages, with the encodings its documents have had over the years: PCM of the caller, who is the only
    track. `raw/slin` is no spelling of anything known, and is refused rather than guessed."""
    start = {
        "event": "start",
        "sequence_number": "1",
        "stream_sid": "s1",
        "start": {
            "stream_sid": "s1",
            "call_sid": "c1",
            "account_sid": "a1",
            "from": "+911",
            "to": "+912",
            "custom_parameters": {"k": "v"},
            "media_format": {"encoding": encoding, "sample_rate": "8000", "bit_rate": "16"},
        },
    }
    rest = (
        {
            "event": "media",
            "sequence_number": "3",
            "stream_sid": "s1",
            "media": {"chunk": "2", "timestamp": "200", "payload": AUDIO},
        },
        {"event": "dtmf", "sequence_number": "7", "stream_sid": "s1", "dtmf": {"digit": "5", "duration": "100"}},
        {"event": "mark", "sequence_number": "8", "stream_sid": "s1", "mark": {"name": "m"}},
        {
            "event": "stop",
            "sequence_number": "9",
            "stream_sid": "s1",
            "stop": {"call_sid": "c1", "reason": "callended"},
        },
    )
    if encoding == "raw/slin":
        with pytest.raises(UnsupportedCodecError):
            said("exotel", start)
        return
    assert said("exotel", {"event": "connected"}, start, *rest) == [
        Ignored("connected"),
        StreamStart(
            "c1", "s1", "a1", ("inbound",), Codec.L16, 8000, from_number="+911", to_number="+912", custom={"k": "v"}
        ),
        Frame("inbound", 3, 200, b"\x01\x02\x03\x04"),
        Dtmf("inbound", "5", 7),
        Mark("m", 8),
        Stop(),
    ]


VONAGE = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", "call_id": "c1", "agent": 7}


def test_vonage() -> None:
    """Vonage's messages: headers are flattened into the first, samples are the only clock, one leg is one track."""
    start, first, second, digit, other = said(
        "vonage",
        VONAGE | {"track": "outbound"},
        bytes(640),
        bytes(640),
        {"event": "websocket:dtmf", "digit": "5", "duration": 260},
        {"event": "websocket:notify", "payload": {}},
    )
    assert isinstance(start, StreamStart)
    assert (start.call_id, start.tracks, start.codec, start.rate_hz) == ("c1", ("outbound",), Codec.L16, 16000)
    assert start.custom["agent"] == "7"
    assert (first, second) == (Frame("outbound", 1, 0, bytes(640)), Frame("outbound", 2, 20, bytes(640)))
    assert digit == Dtmf("outbound", "5", 1)
    assert other == Ignored("websocket:notify")


def test_two_vonage_legs_are_two_streams() -> None:
    """Opens two sockets of one call: one call id, and different stream ids, or each leg would end the other's."""
    streams = [said("vonage", VONAGE)[0] for _ in range(2)]
    assert len({one.stream_id for one in streams if isinstance(one, StreamStart)}) == 2


@pytest.mark.parametrize(
    ("change", "text"), [({"call_id": ""}, "call_id"), ({"track": "both"}, "track"), ({"content-type": "x"}, "cannot")]
)
def test_vonage_without_what_it_needs_is_told_so(change: dict[str, str], text: str) -> None:
    """Starts without a call id, with no track there is, without a rate: refused with a reason that says what to do."""
    with pytest.raises(StartError, match=text):
        said("vonage", VONAGE | change)


# As its feature server sends it: what it knows of the call and, in the same object, the verb's `metadata`.
JAMBONZ = {
    "callSid": "c1",
    "direction": "inbound",
    "from": "+1",
    "to": "+2",
    "callId": "sip-1",
    "sipStatus": 200,
    "sipReason": "OK",
    "callStatus": "in-progress",
    "accountSid": "a1",
    "traceId": "t1",
    "applicationSid": "app1",
    "fsSipAddress": "10.0.0.1:5060",
    "originatingSipIp": "192.0.2.1",
    "originatingSipTrunkName": "trunk",
    "sampleRate": 8000,
    "mixType": "stereo",
    "k": "v",
    "tag": {"n": 1},
}


def test_jambonz_stereo_is_two_tracks() -> None:
    """jambonz' messages: caller left, callee right, both taken apart and on one clock. What the user gave as metadata,
    and nothing that jambonz says itself, is what the stream has to say of itself."""
    interleaved = struct.pack("<4h", 1, -1, 2, -2)
    start, left, right, later, _, digit, other = said(
        "jambonz",
        JAMBONZ,
        interleaved,
        interleaved,
        {"event": "dtmf", "dtmf": "9", "duration": "1600"},
        {"type": "mark", "data": {}},
    )
    assert isinstance(start, StreamStart)
    assert (start.call_id, start.tracks, start.rate_hz, start.custom) == (
        "c1",
        ("inbound", "outbound"),
        8000,
        {"k": "v", "tag": '{"n":1}'},
    )
    assert left == Frame("inbound", 1, 0, struct.pack("<2h", 1, 2))
    assert right == Frame("outbound", 1, 0, struct.pack("<2h", -1, -2))
    assert isinstance(later, Frame)
    assert later.seq == 2
    assert (digit, other) == (Dtmf("inbound", "9", 1), Ignored(""))


@pytest.mark.parametrize("mix", ["mono", "mixed"])
def test_jambonz_mono_is_inbound(mix: str) -> None:
    """One channel is the caller's, or nobody can tell whose: inbound."""
    start, frame = said("jambonz", JAMBONZ | {"mixType": mix}, bytes(320))
    assert isinstance(start, StreamStart)
    assert start.tracks == ("inbound",)
    assert frame == Frame("inbound", 1, 0, bytes(320))


@pytest.mark.parametrize(
    ("name", "opening", "audio"),
    [("vonage", VONAGE, bytes(3)), ("jambonz", JAMBONZ, bytes(6)), ("vonage", VONAGE, b""), ("jambonz", JAMBONZ, b"")],
)
def test_half_a_sample_is_refused(name: str, opening: dict[str, Any], audio: bytes) -> None:
    """Sends what is not whole samples: that message is passed over; taken, every sample after it would be noise."""
    decoder = new_decoder(name)
    decoder.text(json.dumps(opening).encode())
    with pytest.raises(CarrierError):
        decoder.binary(audio)
    assert decoder.binary(bytes(8))


def packet(kind: int, content: bytes = b"") -> bytes:
    return struct.pack(">BH", kind, len(content)) + content


IDENTITY = uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


@pytest.mark.parametrize(("kind", "rate_hz"), [(0x10, 8000), (0x11, 12000), (0x12, 16000), (0x13, 24000)])
def test_audiosocket(kind: int, rate_hz: int) -> None:
    """Asterisk's packets: the UUID is the call's id, the kind of the first audio is the rate, 00 is the end."""
    start, first, second, digit, end = said(
        "audiosocket",
        packet(0x01, IDENTITY.bytes),
        packet(kind, bytes(rate_hz // 25)),
        packet(kind, bytes(rate_hz // 25)),
        packet(0x03, b"5"),
        packet(0x00),
    )
    assert isinstance(start, StreamStart)
    assert (start.call_id, start.codec, start.rate_hz) == (str(IDENTITY), Codec.L16, rate_hz)
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert (first.ts_ms, second.ts_ms) == (0, 20)
    assert (digit, end) == (Dtmf("inbound", "5", 1), Stop())


def test_audiosocket_refuses_what_it_must() -> None:
    """Sends a rate nobody decodes, audio before the UUID, a second UUID, another rate in between, half a packet."""
    with pytest.raises(UnsupportedCodecError, match="44100"):
        said("audiosocket", packet(0x01, IDENTITY.bytes), packet(0x15, bytes(882)))
    for messages in (
        (packet(0x10, bytes(320)),),
        (packet(0x01, IDENTITY.bytes), packet(0x01, IDENTITY.bytes)),
        (packet(0x01, b"short"),),
        (packet(0x01, IDENTITY.bytes), packet(0x10, bytes(320)), packet(0x12, bytes(640))),
        (packet(0x10, bytes(320))[:-1],),
        (b"",),
        (packet(0x03, b"\xff"),),
    ):
        with pytest.raises(CarrierError):
            said("audiosocket", *messages)


def test_an_audiosocket_call_without_audio_is_a_call() -> None:
    """Hangs up before the first sample: the call began and ended."""
    start, end = said("audiosocket", packet(0x01, IDENTITY.bytes), packet(0x00))
    assert isinstance(start, StreamStart)
    assert isinstance(end, Stop)


@pytest.mark.parametrize("name", ["telnyx", "signalwire", "plivo", "exotel"])
def test_json_carriers_send_no_binary(name: str) -> None:
    """A binary message of theirs is refused, and passed over."""
    with pytest.raises(CarrierError):
        said(name, b"\x00\x00")
