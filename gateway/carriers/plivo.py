"""Plivo Audio Streaming: JSON text messages, audio in base64, counters as numbers.

Source: https://www.plivo.com/docs/voice/xml/the-stream-element
`timestamp` is in ms since the epoch, unlike that of other carriers. The stream's zero is the first frame that arrives.
The documentation does not define the byte order of audio/x-l16.
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
    Decoder,
    Frame,
    IncomingRequest,
    Message,
    Repaired,
    StreamInstructions,
    StreamStart,
    UnauthorizedError,
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common import signatures
from gateway.carriers.common.auth import authorize, without_query
from gateway.carriers.common.json_decoder import JsonDecoder, StopMessage, TrackDtmfMessage
from gateway.carriers.common.json_wire import (
    REFUSALS,
    Counter,
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
    rate_hz: int = msgspec.field(name="sampleRate")


class _StartBody(msgspec.Struct):
    call_id: str = msgspec.field(name="callId")
    stream_id: str = msgspec.field(name="streamId")
    media_format: _Format = msgspec.field(name="mediaFormat")
    account: Any = msgspec.field(name="accountId", default="")
    tracks: Any = None


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    start: _StartBody
    extra_headers: Any = None


class _MediaBody(msgspec.Struct, gc=False):
    timestamp: Counter
    payload: bytes
    track: Literal["inbound", "outbound"] = "inbound"


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    sequence_number: Counter = msgspec.field(name="sequenceNumber")
    stream_id: str = msgspec.field(name="streamId")
    media: _MediaBody


_Wire = _Start | _Media | TrackDtmfMessage | StopMessage


class PlivoDecoder(JsonDecoder, wire=_Wire):
    """Decodes one socket of Plivo. byte_order: of L16.

    The first frame that arrives has the time 0. If it overtook others, those have times below 0, which moves none of
    them in the recording.
    """

    def __init__(self, byte_order: ByteOrder) -> None:
        super().__init__(self._relative_frame)
        self._byte_order = byte_order
        self._zero_ms: int | None = None

    def _relative_frame(self, wire: _Media) -> Frame:
        media = wire.media
        if self._zero_ms is None:
            self._zero_ms = media.timestamp
        return Frame(media.track, wire.sequence_number, media.timestamp - self._zero_ms, media.payload)

    def _read_start(self, wire: _Start) -> tuple[Message, ...]:
        start, audio = wire.start, wire.start.media_format
        audio_format = media_format(audio.encoding, audio.rate_hz, allowed=_CODECS)
        headers, repairs = _extra_headers(wire.extra_headers)
        stream = StreamStart(
            call_id=checked_id("callId", start.call_id),
            stream_id=checked_id("streamId", start.stream_id),
            account=text(start.account),
            tracks=text_list(start.tracks),
            codec=audio_format.codec,
            rate_hz=audio_format.rate_hz,
            byte_order=self._byte_order,
            custom=texts(headers),
        )
        return (Repaired(repairs), stream) if repairs else (stream,)


def _extra_headers(value: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the extra headers, which Plivo sends as JSON within JSON, and the kinds of repairs they needed.

    Nothing depends on them, so text that is not JSON is kept unchanged.
    """
    repairs: tuple[str, ...] = ()
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except REFUSALS:
            repaired = repair(value.encode())
            if repaired is None:
                return {"extra_headers": value}, ()
            value, repairs = msgspec.json.decode(repaired.data), repaired.kinds
    return (value, repairs) if isinstance(value, dict) else ({}, ())


class Plivo:
    """Adapter for Plivo."""

    subprotocols: Sequence[str] = ()
    token_at_start = True  # in the stream's extra headers, if the user adds it

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the signature of a GET webhook over the wss:// URL. Signed sockets are not documented."""
        return _authorize(request, signatures.socket_url(settings.base_url, request.target), None, settings)

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the signature over URL and form."""
        if request.body and not request.form:
            raise UnauthorizedError("the body is not a form, so it is not signed")
        return _authorize(request, settings.base_url + request.target, request.form, settings)

    def decoder(self, settings: Settings) -> Decoder:
        """Returns a decoder for one socket."""
        return PlivoDecoder(settings.plivo.l16_byte_order)

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns the CallUUID."""
        return first(fields(request), "CallUUID")

    def answer(self, instructions: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Returns Plivo XML, with the token in the address."""
        return plivo_xml(instructions, settings.plivo)

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of a hang-up or ring URL's form, or of a stream's status callback."""
        values = fields(request)
        return call_report(
            values,
            call=("CallUUID",),
            status=("Event", "CallStatus") if values.get("StreamID") else ("CallStatus", "Event"),
            stream=("StreamID",),
            key=("Timestamp",),
            reason=("HangupCauseName", "HangupCause"),
        )


def _authorize(
    request: IncomingRequest, url: str, form: Sequence[tuple[str, str]] | None, settings: Settings
) -> Authorization:
    def require(account: PlivoAccount) -> None:
        token = account.auth_token.get_secret_value() if account.auth_token else ""
        if not token:
            raise UnauthorizedError("no token is configured: set AUDIOTEXT_PLIVO__AUTH_TOKEN")
        given, nonce = request.headers.get(_SIGNATURE, ""), request.headers.get(f"{_SIGNATURE}-Nonce", "")
        if not nonce or not signatures.verify_v3(token, url, nonce, given, form):
            raise UnauthorizedError(
                f"{_SIGNATURE} is missing or wrong for {without_query(url)}: does Plivo use AUDIOTEXT_PUBLIC_URL?"
            )

    return authorize(settings.plivo, settings.plivo.accounts, require)


CARRIER: Carrier = Plivo()
