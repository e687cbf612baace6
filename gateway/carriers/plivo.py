"""Plivo Audio Streaming: JSON text messages, audio in base64, counters as numbers.

Source: https://www.plivo.com/docs/voice/xml/the-stream-element
Unlike everybody else's, `timestamp` is in ms since the epoch: the stream's zero is the first frame that came.
No page says which byte order audio/x-l16 has.
"""

from collections.abc import Sequence
from typing import Any, Literal
from xml.sax.saxutils import escape

import msgspec

from audiotext.settings import Settings
from gateway.access import deny
from gateway.carriers import (
    ByteOrder,
    Carrier,
    CarrierError,
    Decoder,
    Dtmf,
    Frame,
    Message,
    Proof,
    Stop,
    StreamStart,
    checked_id,
)
from gateway.json_messages import MAX_STREAM_MS, REFUSALS, Counter, Digit, decode_as, texts, understand_refusal
from gateway.media_format import media_format
from schemas.media import Codec

_CODECS = frozenset({Codec.PCMU, Codec.PCMA, Codec.L16})


class _Format(msgspec.Struct):
    encoding: str
    sampleRate: int


class _StartBody(msgspec.Struct):
    callId: str
    streamId: str
    mediaFormat: _Format
    accountId: str = ""
    tracks: list[str] = []


class _MediaBody(msgspec.Struct, gc=False):
    timestamp: Counter
    payload: bytes
    track: Literal["inbound", "outbound"] = "inbound"


class _DtmfBody(msgspec.Struct):
    digit: Digit
    track: Literal["inbound", "outbound"] = "inbound"


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    start: _StartBody
    extra_headers: Any = None


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    sequenceNumber: Counter
    streamId: str
    media: _MediaBody


class _DtmfMessage(msgspec.Struct, tag_field="event", tag="dtmf"):
    dtmf: _DtmfBody
    sequenceNumber: Counter = 0


class _StopMessage(msgspec.Struct, tag_field="event", tag="stop"):
    pass


_Wire = _Start | _Media | _DtmfMessage | _StopMessage
_KNOWN = frozenset({"start", "media", "dtmf", "stop"})
_decode = decode_as(_Wire)


class PlivoDecoder:
    """Decodes one socket: one stream, whose id its media must carry."""

    def __init__(self, byte_order: ByteOrder) -> None:
        self._byte_order = byte_order
        self._stream_id = ""
        self._zero_ms: int | None = None

    def text(self, data: bytes) -> Sequence[Message]:
        """One message of Plivo's. Raises CarrierError."""
        try:
            wire: _Wire = _decode(data)
        except REFUSALS as error:
            return (understand_refusal(data, error, _KNOWN),)
        match wire:
            case _Media():
                return (self._frame(wire),)
            case _Start():
                start = self._stream_start(wire)
                self._stream_id = self._stream_id or start.stream_id
                return (start,)
            case _DtmfMessage(dtmf=dtmf):
                return (Dtmf(dtmf.track, dtmf.digit, wire.sequenceNumber),)
            case _:
                return (Stop(),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Plivo sends none. Raises CarrierError."""
        raise CarrierError("binary message")

    def _frame(self, wire: _Media) -> Frame:
        if self._stream_id and wire.streamId != self._stream_id:
            raise CarrierError("media of another stream")
        media = wire.media
        if not media.payload:
            raise CarrierError("media without audio")
        if self._zero_ms is None:
            self._zero_ms = media.timestamp
        # Below zero if the very first frames were overtaken, which moves none of them.
        ts_ms = media.timestamp - self._zero_ms
        if abs(ts_ms) > MAX_STREAM_MS:
            raise CarrierError("a timestamp more than a week from the first")
        return Frame(media.track, wire.sequenceNumber, ts_ms, media.payload)

    def _stream_start(self, wire: _Start) -> StreamStart:
        start = wire.start
        audio = media_format(start.mediaFormat.encoding, start.mediaFormat.sampleRate, allowed=_CODECS)
        return StreamStart(
            call_id=checked_id("callId", start.callId),
            stream_id=checked_id("streamId", start.streamId),
            account=start.accountId,
            tracks=tuple(start.tracks),
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            byte_order=self._byte_order,
            custom=texts(_headers(wire.extra_headers)),
        )


def _headers(told: Any) -> dict[str, Any]:
    """Plivo sends extra headers as JSON within JSON, and nothing hangs on them."""
    if isinstance(told, str):
        try:
            told = msgspec.json.decode(told)
        except REFUSALS:
            return {"extra_headers": told}
    return told if isinstance(told, dict) else {}


class Plivo:
    """Plivo, as the gateway sees it."""

    subprotocols: Sequence[str] = ()

    def tenant(self, settings: Settings) -> str:
        """The one tenant of the configured account."""
        return settings.plivo.tenant

    def authorize_socket(self, _proof: Proof, _settings: Settings) -> None:
        """Nothing proves a socket to be Plivo's."""
        deny("plivo")

    def authorize_webhook(self, _proof: Proof, _settings: Settings) -> None:
        """Likewise."""
        deny("plivo")

    def decoder(self, settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return PlivoDecoder(settings.plivo.l16_byte_order)

    def answer(self, stream_url: str) -> str | None:
        """Plivo XML: start the stream and stay on the line."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Response><Stream audioTrack="both" keepCallAlive="true">{escape(stream_url)}</Stream></Response>'
        )


CARRIER: Carrier = Plivo()
