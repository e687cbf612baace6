"""Twilio's dialect: what its documents show is understood, and whatever else comes is refused in good order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import Settings
from gateway.carriers import load_carriers
from gateway.carriers.base import (
    Carrier,
    CarrierError,
    Dtmf,
    Frame,
    Ignored,
    IncomingRequest,
    Mark,
    Message,
    Repaired,
    StartError,
    Stop,
    StreamStart,
    UnauthorizedError,
    UnsupportedCodecError,
)
from gateway.carriers.twilio import TwilioDecoder
from schemas.media import Codec
from tests.gateway.wire import dtmf, media, start, stop


def decoded(data: bytes) -> Message:
    """The one message in it, at a socket that has said nothing yet."""
    (message,) = TwilioDecoder().text(data)
    return message


def test_the_registry_finds_the_carrier() -> None:
    """Loads the registry: a module in gateway/carriers is a carrier, by its name."""
    carrier: Carrier = load_carriers()["twilio"]
    assert carrier.decoder(Settings()).text(start())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"event":"connected","protocol":"Call","version":"1.0.0"}', Ignored("connected")),
        (
            '{"event":"media","sequenceNumber":"3","streamSid":"MZ1","media":'
            '{"track":"inbound","chunk":"1","timestamp":"5","payload":"AQID"}}',
            Frame("inbound", 3, 5, b"\x01\x02\x03"),
        ),
        (
            '{"event":"dtmf","sequenceNumber":"5","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"1"}}',
            Dtmf("inbound", "1", 5),
        ),
        ('{"event":"mark","sequenceNumber":"4","streamSid":"MZ1","mark":{"name":"label"}}', Mark("label", 4)),
        (
            '{"event":"stop","sequenceNumber":"5","streamSid":"MZ1","stop":{"accountSid":"AC1","callSid":"CA1"}}',
            Stop(),
        ),
        ('{"event":"telepathy","anything":[1,2]}', Ignored("telepathy")),
    ],
)
def test_the_documented_messages(text: str, message: Message) -> None:
    """Decodes the examples of Twilio's documents, and an event it does not have yet, which is no error."""
    assert decoded(text.encode()) == message


def test_start_is_read_and_not_assumed() -> None:
    """Decodes a start with A-law and custom parameters: codec and rate are what it says; a parameter that is no
    string is kept as JSON instead of costing the call."""
    message = decoded(start("CA1", "MZ1", encoding="audio/x-alaw", custom={"a": "b", "n": {"x": 1}}))
    assert message == StreamStart(
        call_id="CA1",
        stream_id="MZ1",
        account="AC1",
        tracks=("inbound", "outbound"),
        codec=Codec.PCMA,
        rate_hz=8000,
        custom={"a": "b", "n": '{"x":1}'},
    )


@pytest.mark.parametrize(
    ("encoding", "rate", "channels"),
    [("audio/x-l16", 8000, 1), ("audio/x-mulaw", 16000, 1), ("audio/x-mulaw", 8000, 2)],
)
def test_a_format_we_cannot_decode_is_refused(encoding: str, rate: int, channels: int) -> None:
    """Starts streams in formats nobody here decodes: refused with 1003 and the format in words, since recording them
    as mu-law would give static."""
    with pytest.raises(UnsupportedCodecError, match=encoding) as refused:
        decoded(start(encoding=encoding, rate=rate, channels=channels))
    assert refused.value.close_code == 1003


@pytest.mark.parametrize("text", [start(""), start("CA1", ""), start("C" * 257), b'{"event":"start","start":{}}'])
def test_a_start_without_ids_is_refused(text: bytes) -> None:
    """Starts streams without usable ids: StartError, which closes the socket."""
    with pytest.raises(StartError):
        decoded(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event":"media"}',
        media(1).replace(b'"inbound"', b'"sideways"'),
        media(1).replace(b'"payload": "', b'"payload": "!'),
        media(1).replace(b'"timestamp": "20"', b'"timestamp": "-1"'),
        media(1).replace(b'"timestamp": "20"', b'"timestamp": "99999999999999999999"'),
        media(1).replace(b'"timestamp": "20"', b'"timestamp": "soon"'),
        json.dumps(
            {
                "event": "media",
                "sequenceNumber": "1",
                "streamSid": "MZ1",
                "media": {"track": "inbound", "timestamp": "0", "payload": ""},
            }
        ).encode(),
        dtmf("1").replace(b"inbound_track", b"sideways"),
        dtmf(""),
    ],
)
def test_malformed_messages_are_refused(text: bytes) -> None:
    """Decodes messages broken in every field: CarrierError and no StartError, so the stream goes on."""
    with pytest.raises(CarrierError) as refused:
        decoded(text)
    assert not isinstance(refused.value, StartError)


def test_media_of_another_stream_is_refused() -> None:
    """Sends a frame with another stream's id after start: it does not belong into this recording."""
    decoder = TwilioDecoder()
    decoder.text(start(stream_id="MZ1"))
    decoder.text(media(0, stream_id="MZ1"))
    with pytest.raises(CarrierError, match="another stream"):
        decoder.text(media(1, stream_id="MZ2"))


def test_binary_messages_are_refused() -> None:
    """Twilio sends none."""
    with pytest.raises(CarrierError):
        TwilioDecoder().binary(b"\x00")


VALID = st.sampled_from([start(), media(3), dtmf("1"), stop(), b'{"event":"mark","mark":{"name":"x"}}'])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message with a stretch of it replaced by anything."""
    message = draw(VALID)
    begin = draw(st.integers(0, len(message)))
    end = draw(st.integers(begin, len(message)))
    return message[:begin] + draw(st.binary(max_size=20)) + message[end:]


@st.composite
def retyped(draw: st.DrawFn) -> bytes:
    """A valid message with one of its values, at any depth, replaced by any JSON."""
    message = json.loads(draw(VALID))
    place = message
    name = draw(st.sampled_from(sorted(place)))
    while isinstance(place[name], dict) and draw(st.booleans()):
        place = place[name]
        if not place:
            return json.dumps(message).encode()
        name = draw(st.sampled_from(sorted(place)))
    place[name] = draw(JSON)
    return json.dumps(message).encode()


@given(st.binary() | st.text().map(str.encode) | mutated() | retyped())
def test_nothing_but_carrier_errors(data: bytes) -> None:
    """Decodes anything: random octets, valid messages with a piece or a value replaced. The answer is a message or a
    CarrierError; any other exception would end a call because of one message, or the process's patience."""
    decoder = TwilioDecoder()
    for _ in range(2):
        try:
            messages = decoder.text(data)
        except CarrierError:
            continue
        assert len([message for message in messages if not isinstance(message, Repaired)]) == 1
        for message in messages:
            if isinstance(message, StreamStart):
                assert message.call_id.encode()  # no lone surrogates: ids become keys and headers
                assert message.stream_id.encode()


def test_without_a_token_nobody_is_authorized() -> None:
    """Asks for authorization with no token configured: refused, and the log's text names the setting."""
    with pytest.raises(UnauthorizedError, match="AUDIOTEXT_TWILIO__AUTH_TOKEN"):
        load_carriers()["twilio"].authorize_socket(IncomingRequest("/v1/media/twilio", {}), Settings())
