"""Exotel AgentStream: JSON messages in snake case, one direction, about 100 ms of little-endian PCM each.

Source: https://developer.exotel.com/docs/agentstream/websocket-protocol
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from core.settings import Settings
from gateway.carriers.base import (
    Authorization,
    CallReport,
    Carrier,
    Decoder,
    IncomingRequest,
    Message,
    StreamInstructions,
    StreamStart,
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common.auth import authorize, require_credentials
from gateway.carriers.common.json_decoder import Connected, DtmfMessage, JsonDecoder, MarkMessage, StopMessage
from gateway.carriers.common.json_wire import (
    Counter,
    text,
    texts,
)
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.voice_xml import with_token
from gateway.carriers.common.webhook_fields import call_report, fields, first

_TRACK = "inbound"  # Exotel sends only the caller's audio, without the name of the track

# Values of media_format.encoding in older documents: they describe how the payload is written, not the codec.
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


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    start: _StartBody
    stream_sid: str = ""


class _MediaBody(msgspec.Struct, gc=False):
    timestamp: Counter
    payload: bytes
    track: ClassVar[str] = _TRACK


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    sequence_number: Counter
    stream_id: str = msgspec.field(name="stream_sid")
    media: _MediaBody


_Wire = Connected | _Start | _Media | DtmfMessage | MarkMessage | StopMessage


class ExotelDecoder(JsonDecoder, wire=_Wire):
    """Decodes one socket of Exotel."""

    def _read_start(self, wire: _Start) -> tuple[Message, ...]:
        start, audio = wire.start, wire.start.media_format
        encoding = "raw" if audio.encoding.lower() in _NO_CODEC else audio.encoding
        audio_format = media_format(encoding, audio.sample_rate)
        return (
            StreamStart(
                call_id=checked_id("call_sid", start.call_sid),
                stream_id=checked_id("stream_sid", start.stream_sid or wire.stream_sid),
                account=text(start.account_sid),
                tracks=(_TRACK,),
                codec=audio_format.codec,
                rate_hz=audio_format.rate_hz,
                from_number=text(start.from_),
                to_number=text(start.to),
                custom=texts(start.custom_parameters),
            ),
        )


class Exotel:
    """Adapter for Exotel."""

    subprotocols: Sequence[str] = ()
    token_at_start = False

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires HTTP Basic credentials, an allowed address, or both."""
        return _authorize(request, settings)

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the same as a socket."""
        return _authorize(request, settings)

    def decoder(self, _settings: Settings) -> Decoder:
        """Returns a decoder for one socket."""
        return ExotelDecoder()

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns the CallSid."""
        return first(fields(request), "CallSid")

    def answer(self, instructions: StreamInstructions, _settings: Settings) -> VoiceResponse | None:
        """Returns the stream's address as JSON, for the applet. Exotel's own flow decides how the call continues."""
        return VoiceResponse(msgspec.json.encode({"url": with_token(instructions)}).decode(), "application/json")

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of a status callback."""
        return call_report(
            fields(request),
            call=("CallSid",),
            status=("Status", "CallStatus", "EventType"),
            stream=("StreamSid",),
            key=("DateUpdated", "Timestamp"),
        )


def _authorize(request: IncomingRequest, settings: Settings) -> Authorization:
    own = settings.exotel
    return authorize(own, own.accounts, lambda account: require_credentials(request, account, "AUDIOTEXT_EXOTEL"))


CARRIER: Carrier = Exotel()
