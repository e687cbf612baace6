"""Telnyx Media Streaming: JSON text messages, RTP payloads in base64. Order is not guaranteed: `chunk` orders.

Source: https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from audiotext.settings import Settings
from gateway.access import require_bearer
from gateway.carriers import (
    ByteOrder,
    Carrier,
    CarrierError,
    Decoder,
    Dtmf,
    Frame,
    Ignored,
    Mark,
    Message,
    Proof,
    Stop,
    StreamStart,
    checked_id,
    twilio,
)
from gateway.json_messages import (
    REFUSALS,
    Counter,
    Digit,
    Milliseconds,
    decode_as,
    texts,
    understand_refusal,
)
from gateway.media_format import media_format


class _Format(msgspec.Struct):
    encoding: str
    sample_rate: int
    channels: int = 1


class _StartBody(msgspec.Struct):
    call_control_id: str
    media_format: _Format
    user_id: str = ""
    call_session_id: str = ""
    from_: str = msgspec.field(name="from", default="")
    to: str = ""
    client_state: str | None = None
    custom_parameters: dict[str, Any] | None = None


class _MediaBody(msgspec.Struct, gc=False):
    track: Literal["inbound", "outbound"]
    chunk: Counter
    timestamp: Milliseconds
    payload: bytes


class _DtmfBody(msgspec.Struct):
    digit: Digit


class _MarkBody(msgspec.Struct):
    name: str


class _Connected(msgspec.Struct, tag_field="event", tag="connected"):
    pass


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    stream_id: str
    start: _StartBody


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    stream_id: str
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
_TOKEN = "AUDIOTEXT_TELNYX__STREAM_TOKEN"


class TelnyxDecoder:
    """Decodes one socket: one stream, whose id its media must carry."""

    def __init__(self, byte_order: ByteOrder) -> None:
        self._byte_order = byte_order
        self._stream_id = ""

    def text(self, data: bytes) -> Sequence[Message]:
        """One message of Telnyx'. Raises CarrierError."""
        try:
            wire: _Wire = _decode(data)
        except REFUSALS as error:
            return (understand_refusal(data, error, _KNOWN),)
        if type(wire) is _Media:
            if self._stream_id and wire.stream_id != self._stream_id:
                raise CarrierError("media of another stream")
            media = wire.media
            if not media.payload:
                raise CarrierError("media without audio")
            return (Frame(media.track, media.chunk, media.timestamp, media.payload),)
        return (self._rare(wire),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Telnyx sends none. Raises CarrierError."""
        raise CarrierError("binary message")

    def _rare(self, wire: _Wire) -> Message:
        match wire:
            case _Start():
                start = self._stream_start(wire)
                self._stream_id = self._stream_id or start.stream_id
                return start
            case _DtmfMessage(dtmf=dtmf):
                return Dtmf("inbound", dtmf.digit, wire.sequence_number)
            case _MarkMessage(mark=mark):
                return Mark(mark.name, wire.sequence_number)
            case _StopMessage():
                return Stop()
            case _:
                return Ignored("connected")

    def _stream_start(self, wire: _Start) -> StreamStart:
        start = wire.start
        told = start.media_format
        audio = media_format(told.encoding, told.sample_rate, told.channels)
        custom = texts(start.custom_parameters)
        if start.call_session_id:
            custom.setdefault("call_session_id", start.call_session_id)  # what the legs of one call have in common
        if start.client_state:
            custom.setdefault("client_state", start.client_state)
        return StreamStart(
            call_id=checked_id("call_control_id", start.call_control_id),
            stream_id=checked_id("stream_id", wire.stream_id),
            account=start.user_id,
            tracks=(),  # Telnyx does not say; the tracks are those that are heard
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            byte_order=self._byte_order,
            from_number=start.from_,
            to_number=start.to,
            custom=custom,
        )


class Telnyx:
    """Telnyx, as the gateway sees it."""

    subprotocols: Sequence[str] = ()

    def tenant(self, settings: Settings) -> str:
        """The one tenant of the configured account."""
        return settings.telnyx.tenant

    def authorize_socket(self, proof: Proof, settings: Settings) -> None:
        """The `stream_auth_token` a stream is started with comes back as a bearer token."""
        require_bearer(proof, settings.telnyx.stream_token, _TOKEN)

    def authorize_webhook(self, proof: Proof, settings: Settings) -> None:
        """Likewise."""
        require_bearer(proof, settings.telnyx.stream_token, _TOKEN)

    def decoder(self, settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return TelnyxDecoder(settings.telnyx.l16_byte_order)

    def answer(self, stream_url: str) -> str | None:
        """TeXML says this exactly as TwiML does."""
        return twilio.CARRIER.answer(stream_url)


CARRIER: Carrier = Telnyx()
