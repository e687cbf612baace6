"""Exotel AgentStream: JSON text messages in snake case, about 100 ms of little-endian PCM each, one direction.

Source: https://developer.exotel.com/docs/agentstream/websocket-protocol
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from core.settings import Settings
from gateway.carriers.base import (
    Authorization,
    CallReport,
    Carrier,
    CarrierError,
    Decoder,
    Dtmf,
    Frame,
    Ignored,
    IncomingRequest,
    Mark,
    Message,
    Stop,
    StreamInstructions,
    StreamStart,
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common.auth import authorize, require_credentials
from gateway.carriers.common.json_wire import (
    REFUSALS,
    Counter,
    Digit,
    decode_as,
    read_refused,
    text,
    texts,
)
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.voice_xml import with_token
from gateway.carriers.common.webhook_fields import call_report, fields, first

_TRACK = "inbound"  # what the caller says; Exotel sends nothing else and does not name it

# What older documents have in media_format.encoding: how the payload is written, not what it is.
_NO_CODEC = frozenset({"", "base64"})


class _Format(msgspec.Struct):
    sample_rate: int = 8000
    encoding: str = ""


class _StartBody(msgspec.Struct):
    call_sid: str
    stream_sid: str = ""
    account_sid: Any = ""
    from_: Any = msgspec.field(name="from", default="")
    to: Any = ""
    media_format: _Format = msgspec.field(default_factory=_Format)
    custom_parameters: Any = None


class _MediaBody(msgspec.Struct, gc=False):
    timestamp: Counter
    payload: bytes


class _DtmfBody(msgspec.Struct):
    digit: Digit


class _MarkBody(msgspec.Struct):
    name: str


class _Connected(msgspec.Struct, tag_field="event", tag="connected"):
    pass


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    start: _StartBody
    stream_sid: str = ""


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    sequence_number: Counter
    stream_sid: str
    media: _MediaBody


class _DtmfMessage(msgspec.Struct, tag_field="event", tag="dtmf"):
    dtmf: _DtmfBody
    sequence_number: Counter = 0


class _MarkMessage(msgspec.Struct, tag_field="event", tag="mark"):
    mark: _MarkBody
    sequence_number: Counter = 0


class _StopMessage(msgspec.Struct, tag_field="event", tag="stop"):
    pass


_Wire = _Connected | _Start | _Media | _DtmfMessage | _MarkMessage | _StopMessage
_KNOWN = frozenset({"connected", "start", "media", "dtmf", "mark", "stop"})
_decode = decode_as(_Wire)


class ExotelDecoder:
    """Decodes one socket: one stream, whose id its media must carry."""

    def __init__(self) -> None:
        self._stream_id = ""

    def text(self, data: bytes) -> Sequence[Message]:
        """One message of Exotel's. Raises CarrierError."""
        try:
            wire: _Wire = _decode(data)
        except REFUSALS as error:
            return read_refused(data, error, _KNOWN, self.text)
        return (self._message(wire),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Exotel sends none. Raises CarrierError."""
        raise CarrierError("binary message")

    def _message(self, wire: _Wire) -> Message:
        match wire:
            case _Media(media=media):
                if self._stream_id and wire.stream_sid != self._stream_id:
                    raise CarrierError("media of another stream")
                if not media.payload:
                    raise CarrierError("media without audio")
                return Frame(_TRACK, wire.sequence_number, media.timestamp, media.payload)
            case _Start():
                start = _stream_start(wire)
                self._stream_id = self._stream_id or start.stream_id
                return start
            case _DtmfMessage(dtmf=dtmf):
                return Dtmf(_TRACK, dtmf.digit, wire.sequence_number)
            case _MarkMessage(mark=mark):
                return Mark(mark.name, wire.sequence_number)
            case _StopMessage():
                return Stop()
            case _:
                return Ignored("connected")


def _stream_start(wire: _Start) -> StreamStart:
    start = wire.start
    told = start.media_format
    audio = media_format("raw" if told.encoding.lower() in _NO_CODEC else told.encoding, told.sample_rate)
    return StreamStart(
        call_id=checked_id("call_sid", start.call_sid),
        stream_id=checked_id("stream_sid", start.stream_sid or wire.stream_sid),
        account=text(start.account_sid),
        tracks=(_TRACK,),
        codec=audio.codec,
        rate_hz=audio.rate_hz,
        from_number=text(start.from_),
        to_number=text(start.to),
        custom=texts(start.custom_parameters),
    )


class Exotel:
    """Exotel, as the gateway sees it."""

    subprotocols: Sequence[str] = ()
    token_at_start = False

    def authorize_socket(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """By HTTP Basic credentials or address."""
        return _authorize(proof, settings)

    def authorize_webhook(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """Likewise."""
        return _authorize(proof, settings)

    def decoder(self, _settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return ExotelDecoder()

    def asked_for(self, proof: IncomingRequest) -> str:
        """The CallSid."""
        return first(fields(proof), "CallSid")

    def answer(self, offer: StreamInstructions, _settings: Settings) -> VoiceResponse | None:
        """The stream's address in JSON, for the applet; how the call goes on is said in Exotel's own flow."""
        return VoiceResponse(msgspec.json.encode({"url": with_token(offer)}).decode(), "application/json")

    def report(self, proof: IncomingRequest) -> CallReport | None:
        """A status callback."""
        return call_report(
            fields(proof),
            call=("CallSid",),
            status=("Status", "CallStatus", "EventType"),
            stream=("StreamSid",),
            key=("DateUpdated", "Timestamp"),
        )


def _authorize(proof: IncomingRequest, settings: Settings) -> Authorization:
    own = settings.exotel
    return authorize(own, own.accounts, lambda account: require_credentials(proof, account, "AUDIOTEXT_EXOTEL"))


CARRIER: Carrier = Exotel()
