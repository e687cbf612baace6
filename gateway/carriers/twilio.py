"""Twilio Media Streams: JSON text messages, audio in base64, counters as strings.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages
`chunk` counts per track in some accounts and over both in others, so `sequenceNumber` orders and `timestamp` places.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import msgspec

from audiotext.settings import Settings
from gateway import signatures
from gateway.carriers import (
    TRACKS,
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
    UnauthorizedError,
    checked_id,
)
from gateway.json_messages import REFUSALS, Counter, Digit, Milliseconds, decode_as, texts, understand_refusal
from gateway.media_format import media_format
from schemas.media import Codec

# The documents say mu-law always; A-law legs and newer accounts say otherwise in mediaFormat.
_CODECS = frozenset({Codec.PCMU, Codec.PCMA})
_TRACK_NAMES = {"inbound_track": "inbound", "outbound_track": "outbound"}


class _Format(msgspec.Struct):
    encoding: str
    sampleRate: int
    channels: int = 1


class _StartBody(msgspec.Struct):
    callSid: str
    mediaFormat: _Format
    streamSid: str = ""
    accountSid: str = ""
    tracks: list[str] = []
    customParameters: dict[str, Any] | None = None


class _MediaBody(msgspec.Struct, gc=False):
    track: Literal["inbound", "outbound"]
    timestamp: Milliseconds
    payload: bytes


class _DtmfBody(msgspec.Struct):
    digit: Digit
    track: str = "inbound"


class _MarkBody(msgspec.Struct):
    name: str


class _Connected(msgspec.Struct, tag_field="event", tag="connected"):
    pass


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    start: _StartBody
    streamSid: str = ""


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    sequenceNumber: Counter
    streamSid: str
    media: _MediaBody


class _DtmfMessage(msgspec.Struct, tag_field="event", tag="dtmf"):
    dtmf: _DtmfBody
    sequenceNumber: Counter = 0
    streamSid: str = ""


class _MarkMessage(msgspec.Struct, tag_field="event", tag="mark"):
    mark: _MarkBody
    sequenceNumber: Counter = 0
    streamSid: str = ""


class _StopMessage(msgspec.Struct, tag_field="event", tag="stop"):
    streamSid: str = ""


_Wire = _Connected | _Start | _Media | _DtmfMessage | _MarkMessage | _StopMessage
_KNOWN = frozenset({"connected", "start", "media", "dtmf", "mark", "stop"})

_decode = decode_as(_Wire)


class TwilioDecoder:
    """Decodes one socket: one stream, whose id later messages must carry.

    codecs, byte_order: what a relative of Twilio's sends beyond it.
    """

    def __init__(self, codecs: Collection[Codec] = _CODECS, byte_order: ByteOrder = "little") -> None:
        self._codecs = codecs
        self._byte_order = byte_order
        self._stream_id = ""

    def text(self, data: bytes) -> Sequence[Message]:
        """One message of Twilio's. Raises CarrierError."""
        try:
            wire: _Wire = _decode(data)
        except REFUSALS as error:
            return (understand_refusal(data, error, _KNOWN),)
        if type(wire) is _Media:  # first: all but a handful of a call's messages
            if self._stream_id and wire.streamSid != self._stream_id:
                raise CarrierError("media of another stream")
            media = wire.media
            if not media.payload:
                raise CarrierError("media without audio")
            return (Frame(media.track, wire.sequenceNumber, media.timestamp, media.payload),)
        return (self._rare(wire),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Twilio sends none. Raises CarrierError."""
        raise CarrierError("binary message")

    def _rare(self, wire: _Wire) -> Message:
        match wire:
            case _Start():
                start = self._stream_start(wire)
                self._stream_id = self._stream_id or start.stream_id
                return start
            case _DtmfMessage(dtmf=dtmf):
                track = _TRACK_NAMES.get(dtmf.track, dtmf.track)
                if track not in TRACKS:
                    raise CarrierError(f"dtmf on unknown track {dtmf.track[:40]!r}")
                return Dtmf(track, dtmf.digit, wire.sequenceNumber)
            case _MarkMessage(mark=mark):
                return Mark(mark.name, wire.sequenceNumber)
            case _StopMessage():
                return Stop()
            case _:
                return Ignored("connected")

    def _stream_start(self, wire: _Start) -> StreamStart:
        start = wire.start
        told = start.mediaFormat
        audio = media_format(told.encoding, told.sampleRate, told.channels, allowed=self._codecs)
        return StreamStart(
            call_id=checked_id("callSid", start.callSid),
            stream_id=checked_id("streamSid", start.streamSid or wire.streamSid),
            account=start.accountSid,
            tracks=tuple(start.tracks) or ("inbound",),
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            byte_order=self._byte_order,
            custom=texts(start.customParameters),
        )


class Twilio:
    """Twilio, as the gateway sees it."""

    subprotocols: Sequence[str] = ()

    def tenant(self, settings: Settings) -> str:
        """The one tenant of the configured account."""
        return settings.twilio.tenant

    def authorize_socket(self, proof: Proof, settings: Settings) -> None:
        """The upgrade is signed over its wss:// URL."""
        _authorize(proof, signatures.socket_url(settings.base_url, proof.target), settings)

    def authorize_webhook(self, proof: Proof, settings: Settings) -> None:
        """A webhook is signed over its URL and form."""
        _authorize(proof, settings.base_url + proof.target, settings)

    def decoder(self, _settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return TwilioDecoder()

    def answer(self, stream_url: str) -> str:
        """TwiML: start the stream, then stay on the line (a call whose TwiML has run out is hung up)."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Response><Start><Stream url={quoteattr(stream_url)} track="both_tracks"/></Start>'
            '<Pause length="3600"/></Response>'
        )


def _authorize(proof: Proof, url: str, settings: Settings) -> None:
    token = settings.twilio.auth_token
    if token is None or not token.get_secret_value():
        raise UnauthorizedError("no token is configured: set AUDIOTEXT_TWILIO__AUTH_TOKEN")
    signature = proof.headers.get(signatures.HEADER)
    if not signature:
        raise UnauthorizedError(f"no {signatures.HEADER}")
    if not signatures.verify(token.get_secret_value(), url, signature, proof.form):
        raise UnauthorizedError(
            f"{signatures.HEADER} is not right for {url}: is AUDIOTEXT_PUBLIC_URL what Twilio uses?"
        )


CARRIER: Carrier = Twilio()
