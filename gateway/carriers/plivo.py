"""Plivo Audio Streaming: JSON text messages, audio in base64, counters as numbers.

Source: https://www.plivo.com/docs/voice/xml/the-stream-element
Unlike everybody else's, `timestamp` is in ms since the epoch: the stream's zero is the first frame that came.
No page says which byte order audio/x-l16 has.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from core.settings import PlivoAccount, Settings
from gateway.carriers.base import (
    Authorization,
    ByteOrder,
    CallReport,
    Carrier,
    CarrierError,
    Decoder,
    Dtmf,
    Frame,
    IncomingRequest,
    Message,
    Repaired,
    Stop,
    StreamInstructions,
    StreamStart,
    UnauthorizedError,
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common import signatures
from gateway.carriers.common.auth import authorize, without_query
from gateway.carriers.common.json_wire import (
    REFUSALS,
    Counter,
    Digit,
    decode_as,
    read_refused,
    text,
    text_list,
    texts,
)
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.text_repair import repair
from gateway.carriers.common.voice_xml import plivo_xml
from gateway.carriers.common.webhook_fields import call_report, fields, first
from schemas.media import Codec

_SIGNATURE = "X-Plivo-Signature-V3"
_CODECS = frozenset({Codec.PCMU, Codec.PCMA, Codec.L16})


class _Format(msgspec.Struct):
    encoding: str
    sampleRate: int


class _StartBody(msgspec.Struct):
    callId: str
    streamId: str
    mediaFormat: _Format
    accountId: Any = ""
    tracks: Any = None


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
            return read_refused(data, error, _KNOWN, self.text)
        match wire:
            case _Media():
                return (self._frame(wire),)
            case _Start():
                headers, repairs = _headers(wire.extra_headers)
                start = self._stream_start(wire, headers)
                self._stream_id = self._stream_id or start.stream_id
                return (Repaired(repairs), start) if repairs else (start,)
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
        return Frame(media.track, wire.sequenceNumber, media.timestamp - self._zero_ms, media.payload)

    def _stream_start(self, wire: _Start, headers: dict[str, Any]) -> StreamStart:
        start = wire.start
        audio = media_format(start.mediaFormat.encoding, start.mediaFormat.sampleRate, allowed=_CODECS)
        return StreamStart(
            call_id=checked_id("callId", start.callId),
            stream_id=checked_id("streamId", start.streamId),
            account=text(start.accountId),
            tracks=text_list(start.tracks),
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            byte_order=self._byte_order,
            custom=texts(headers),
        )


def _headers(told: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The extra headers, which Plivo sends as JSON within JSON, and what had to be repaired in them. Nothing depends on
    them: text that is not JSON is kept as it is."""
    repairs: tuple[str, ...] = ()
    if isinstance(told, str):
        try:
            told = msgspec.json.decode(told)
        except REFUSALS:
            repaired = repair(told.encode())
            if repaired is None:
                return {"extra_headers": told}, ()
            told, repairs = msgspec.json.decode(repaired.data), repaired.kinds
    return (told, repairs) if isinstance(told, dict) else ({}, ())


class Plivo:
    """Plivo, as the gateway sees it."""

    subprotocols: Sequence[str] = ()
    token_at_start = True  # in the stream's extra headers, if the user puts it there

    def authorize_socket(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """As a webhook that is a GET, over the wss:// URL. No page says that sockets are signed."""
        return _authorize(proof, signatures.socket_url(settings.base_url, proof.target), None, settings)

    def authorize_webhook(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """A webhook is signed over its URL and form."""
        if proof.body and not proof.form:
            raise UnauthorizedError("a body that is no form is not signed")
        return _authorize(proof, settings.base_url + proof.target, proof.form, settings)

    def decoder(self, settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return PlivoDecoder(settings.plivo.l16_byte_order)

    def asked_for(self, proof: IncomingRequest) -> str:
        """The CallUUID."""
        return first(fields(proof), "CallUUID")

    def answer(self, offer: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Plivo XML, with the token in the address."""
        return plivo_xml(offer, settings.plivo)

    def report(self, proof: IncomingRequest) -> CallReport | None:
        """A hang-up or ring URL's form, or a stream's status callback."""
        told = fields(proof)
        return call_report(
            told,
            call=("CallUUID",),
            status=("Event", "CallStatus") if told.get("StreamID") else ("CallStatus", "Event"),
            stream=("StreamID",),
            key=("Timestamp",),
            reason=("HangupCauseName", "HangupCause"),
        )


def _authorize(
    proof: IncomingRequest, url: str, form: Sequence[tuple[str, str]] | None, settings: Settings
) -> Authorization:
    def require(account: PlivoAccount) -> None:
        token = account.auth_token.get_secret_value() if account.auth_token else ""
        if not token:
            raise UnauthorizedError("no token is configured: set AUDIOTEXT_PLIVO__AUTH_TOKEN")
        given, nonce = proof.headers.get(_SIGNATURE, ""), proof.headers.get(f"{_SIGNATURE}-Nonce", "")
        if not nonce or not signatures.verify_v3(token, url, nonce, given, form):
            raise UnauthorizedError(
                f"{_SIGNATURE} is missing or not right for {without_query(url)}: is AUDIOTEXT_PUBLIC_URL what "
                "Plivo uses?"
            )

    return authorize(settings.plivo, settings.plivo.accounts, require)


CARRIER: Carrier = Plivo()
