"""Telnyx Media Streaming: JSON messages, RTP payloads in base64. Messages may be out of order; `chunk` orders them.

Sources: https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming and, for TeXML's ids,
https://developers.telnyx.com/api-reference/callbacks/texml-stream
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from core.settings import Settings, TelnyxAccount
from gateway.carriers import twilio
from gateway.carriers.base import (
    MAX_ID_LENGTH,
    Authorization,
    ByteOrder,
    CallReport,
    Carrier,
    Decoder,
    Frame,
    IncomingRequest,
    Message,
    StreamInstructions,
    StreamStart,
    UnauthorizedError,
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common import signatures
from gateway.carriers.common.auth import authorize, require_bearer
from gateway.carriers.common.json_decoder import Connected, DtmfMessage, JsonDecoder, MarkMessage, StopMessage
from gateway.carriers.common.json_wire import (
    Counter,
    text,
    texts,
)
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.voice_xml import twiml
from gateway.carriers.common.webhook_fields import fields, first, read_json


class _Format(msgspec.Struct):
    encoding: str
    sample_rate: int
    channels: int = 1


class _StartBody(msgspec.Struct):
    call_control_id: str
    media_format: _Format
    user_id: Any = ""
    call_session_id: Any = ""
    from_: Any = msgspec.field(name="from", default="")
    to: Any = ""
    client_state: Any = None
    custom_parameters: Any = None


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    stream_id: str
    start: _StartBody


class _MediaBody(msgspec.Struct, gc=False):
    track: Literal["inbound", "outbound"]
    chunk: Counter
    timestamp: Counter
    payload: bytes


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    stream_id: str
    media: _MediaBody


_Wire = Connected | _Start | _Media | DtmfMessage | MarkMessage | StopMessage
_SIGNATURE_HEADERS = ("telnyx-signature-ed25519", "telnyx-timestamp")
_TOKEN = "AUDIOTEXT_TELNYX__STREAM_TOKEN"


def _frame(wire: _Media) -> Frame:
    media = wire.media
    return Frame(media.track, media.chunk, media.timestamp, media.payload)


class TelnyxDecoder(JsonDecoder, wire=_Wire):
    """Decodes one socket of Telnyx. byte_order: of L16."""

    def __init__(self, byte_order: ByteOrder) -> None:
        super().__init__(_frame)
        self._byte_order = byte_order

    def _read_start(self, wire: _Start) -> tuple[Message, ...]:
        start, audio = wire.start, wire.start.media_format
        audio_format = media_format(audio.encoding, audio.sample_rate, audio.channels)
        custom = texts(start.custom_parameters)
        if start.call_session_id:  # all legs of one call have the same
            custom.setdefault("call_session_id", text(start.call_session_id))
        if start.client_state:
            custom.setdefault("client_state", text(start.client_state))
        return (
            StreamStart(
                call_id=checked_id("call_control_id", start.call_control_id),
                stream_id=checked_id("stream_id", wire.stream_id),
                account=text(start.user_id),
                tracks=(),  # Telnyx does not announce the tracks: the media show them
                codec=audio_format.codec,
                rate_hz=audio_format.rate_hz,
                byte_order=self._byte_order,
                from_number=text(start.from_),
                to_number=text(start.to),
                custom=custom,
            ),
        )


class Telnyx:
    """Adapter for Telnyx."""

    subprotocols: Sequence[str] = ()
    token_at_start = False

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the stream's `stream_auth_token` as a bearer token."""
        own = settings.telnyx
        return authorize(own, own.accounts, lambda account: require_bearer(request, account.stream_token, _TOKEN))

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the signature over time and body."""
        own = settings.telnyx
        return authorize(own, own.accounts, lambda account: _require_signature(request, account))

    def decoder(self, settings: Settings) -> Decoder:
        """Returns a decoder for one socket."""
        return TelnyxDecoder(settings.telnyx.l16_byte_order)

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns TeXML's CallSid, which is the call_control_id."""
        return first(fields(request), "CallSid")

    def answer(self, instructions: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Returns TeXML, which equals TwiML. It has no field for a bearer token, so the address has the token."""
        return twiml(instructions, settings.telnyx, query_token=True)

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of a Voice API event, or of TeXML's status callback."""
        if request.form:
            return twilio.twilio_report(fields(request))
        event = read_json(_decode_event, request.body).data
        call = event.payload
        if not call.call_control_id:
            return None
        return CallReport(
            call_id=call.call_control_id[:MAX_ID_LENGTH],
            status=event.event_type[:MAX_ID_LENGTH],
            stream_id=call.stream_id[:MAX_ID_LENGTH],
            over=event.event_type == "call.hangup",
            key=event.id[:MAX_ID_LENGTH],
            reason=(call.hangup_cause or call.failure_reason)[:MAX_ID_LENGTH],
            from_number=text(call.from_)[:MAX_ID_LENGTH],
            to_number=text(call.to)[:MAX_ID_LENGTH],
        )


class _EventCall(msgspec.Struct, frozen=True):
    call_control_id: str = ""
    stream_id: str = ""
    hangup_cause: str = ""
    failure_reason: str = ""
    from_: Any = msgspec.field(name="from", default="")
    to: Any = ""


class _EventData(msgspec.Struct):
    event_type: str
    id: str = ""
    payload: _EventCall = _EventCall()


class _Event(msgspec.Struct):
    data: _EventData


_decode_event = msgspec.json.Decoder(_Event).decode


def _require_signature(request: IncomingRequest, account: TelnyxAccount) -> None:
    if not account.public_key:
        raise UnauthorizedError("no public key is configured: set AUDIOTEXT_TELNYX__PUBLIC_KEY")
    signature, timestamp = (request.headers.get(name, "") for name in _SIGNATURE_HEADERS)
    try:
        right = signatures.verify_ed25519(account.public_key, timestamp, signature, request.body, request.at_s)
    except ValueError:
        raise UnauthorizedError("AUDIOTEXT_TELNYX__PUBLIC_KEY is not an Ed25519 key in base64") from None
    if not right:
        raise UnauthorizedError(
            f"{_SIGNATURE_HEADERS[0]} is missing, wrong, or older than {signatures.ED25519_WINDOW_S} s"
        )


CARRIER: Carrier = Telnyx()
