"""Tests of Twilio's messages: the documented ones are decoded, and all others are refused."""

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
from tests.support.twilio_messages import dtmf, media, start, stop


def decoded(data: bytes) -> Message:
    """Returns the one message in the data, decoded by a new decoder."""
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
    """Decodes the examples in Twilio's documents, and an unknown event, which is ignored."""
    assert decoded(text.encode()) == message


def test_start_is_read_and_not_assumed() -> None:
    """Decodes a start with A-law and custom parameters: codec and rate are those of the start.

    A parameter that is not a string is kept as JSON and does not fail the call.
    """
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
def test_an_unsupported_format_is_refused(encoding: str, rate: int, channels: int) -> None:
    """Starts streams in unsupported formats: refused with 1003 and the name of the format.

    Recorded as mu-law, they would be noise.
    """
    with pytest.raises(UnsupportedCodecError, match=encoding) as refused:
        decoded(start(encoding=encoding, rate=rate, channels=channels))
    assert refused.value.close_code == 1003


@pytest.mark.parametrize("text", [start(""), start("CA1", ""), start("C" * 257), b'{"event":"start","start":{}}'])
def test_a_start_without_ids_is_refused(text: bytes) -> None:
    """Starts streams without valid ids: StartError, which closes the socket."""
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
    """Decodes messages with an error in every field: CarrierError, but no StartError, so the stream continues."""
    with pytest.raises(CarrierError) as refused:
        decoded(text)
    assert not isinstance(refused.value, StartError)


def test_media_of_another_stream_is_refused() -> None:
    """Sends a frame with another stream's id after start: it is not part of this recording."""
    decoder = TwilioDecoder()
    decoder.text(start(stream_id="MZ1"))
    decoder.text(media(0, stream_id="MZ1"))
    with pytest.raises(CarrierError, match="another stream"):
        decoder.text(media(1, stream_id="MZ2"))


def test_binary_messages_are_refused() -> None:
    """Sends a binary message: CarrierError, because Twilio sends none."""
    with pytest.raises(CarrierError):
        TwilioDecoder().binary(b"\x00")


VALID = st.sampled_from([start(), media(3), dtmf("1"), stop(), b'{"event":"mark","mark":{"name":"x"}}'])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draws a valid message with a part replaced by random bytes."""
    message = draw(VALID)
    begin = draw(st.integers(0, len(message)))
    end = draw(st.integers(begin, len(message)))
    return message[:begin] + draw(st.binary(max_size=20)) + message[end:]


@st.composite
def retyped(draw: st.DrawFn) -> bytes:
    """Draws a valid message with one value, at any depth, replaced by other JSON."""
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
    """Decodes random bytes and damaged messages: the result is a message or a CarrierError.

    Any other exception would end a call because of one message.
    """
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


def test_without_a_token_every_request_is_refused() -> None:
    """Authorizes a request without a configured token: refused, and the text for the log names the setting."""
    with pytest.raises(UnauthorizedError, match="AUDIOTEXT_TWILIO__AUTH_TOKEN"):
        load_carriers()["twilio"].authorize_socket(IncomingRequest("/v1/media/twilio", {}), Settings())
