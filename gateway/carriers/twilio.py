"""Twilio Media Streams: JSON messages, audio in base64, counters as strings.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages
`chunk` counts per track in some accounts and over both tracks in others. So `sequenceNumber` gives the order, and
`timestamp` the position.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from core.settings import Settings, TwilioAccount
from gateway.carriers.base import (
    Authorization,
    ByteOrder,
    CallReport,
    Carrier,
    Decoder,
    IncomingRequest,
    Message,
    StreamInstructions,
    StreamStart,
    UnauthorizedError,
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common import signatures
from gateway.carriers.common.auth import authorize, without_query
from gateway.carriers.common.json_decoder import CamelMarkMessage, Connected, JsonDecoder, StopMessage, TrackDtmfMessage
from gateway.carriers.common.json_wire import (
    Counter,
    text,
    text_list,
    texts,
)
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.voice_xml import twiml
from gateway.carriers.common.webhook_fields import call_report, fields, first
from schemas.media import Codec

# The documentation only names mu-law; A-law legs and newer accounts have other values in mediaFormat.
_CODECS = frozenset({Codec.PCMU, Codec.PCMA})
_ALGORITHMS: Final[dict[str, signatures.Hash]] = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


class _Format(msgspec.Struct):
    encoding: str
    rate_hz: int = msgspec.field(name="sampleRate")
    channels: int = 1


class _StartBody(msgspec.Struct):
    call_id: str = msgspec.field(name="callSid")
    media_format: _Format = msgspec.field(name="mediaFormat")
    stream_id: str = msgspec.field(name="streamSid", default="")
    account: Any = msgspec.field(name="accountSid", default="")
    tracks: Any = None
    custom: Any = msgspec.field(name="customParameters", default=None)


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    start: _StartBody
    stream_id: str = msgspec.field(name="streamSid", default="")


class _MediaBody(msgspec.Struct, gc=False):
    track: Literal["inbound", "outbound"]
    timestamp: Counter
    payload: bytes


class _Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    sequence_number: Counter = msgspec.field(name="sequenceNumber")
    stream_id: str = msgspec.field(name="streamSid")
    media: _MediaBody


_Wire = Connected | _Start | _Media | TrackDtmfMessage | CamelMarkMessage | StopMessage


class TwilioDecoder(JsonDecoder, wire=_Wire):
    """Decodes one socket of Twilio, or of a carrier that speaks like it.

    codecs, byte_order: of the audio that such a carrier may send.
    """

    def __init__(self, codecs: Collection[Codec] = _CODECS, byte_order: ByteOrder = "little") -> None:
        super().__init__()
        self._codecs = codecs
        self._byte_order = byte_order

    def _read_start(self, wire: _Start) -> tuple[Message, ...]:
        start, audio = wire.start, wire.start.media_format
        audio_format = media_format(audio.encoding, audio.rate_hz, audio.channels, allowed=self._codecs)
        return (
            StreamStart(
                call_id=checked_id("callSid", start.call_id),
                stream_id=checked_id("streamSid", start.stream_id or wire.stream_id),
                account=text(start.account),
                tracks=text_list(start.tracks) or ("inbound",),
                codec=audio_format.codec,
                rate_hz=audio_format.rate_hz,
                byte_order=self._byte_order,
                custom=texts(start.custom),
            ),
        )


class Twilio:
    """Adapter for Twilio."""

    subprotocols: Sequence[str] = ()
    token_at_start = False

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the signature over the wss:// URL."""
        return _authorize(request, signatures.socket_url(settings.base_url, request.target), settings)

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the signature over URL and form."""
        return _authorize(request, settings.base_url + request.target, settings)

    def decoder(self, _settings: Settings) -> Decoder:
        """Returns a decoder for one socket."""
        return TwilioDecoder()

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns the CallSid."""
        return first(fields(request), "CallSid")

    def answer(self, instructions: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Returns TwiML. Twilio's stream URL may not have a query string, so the token is a parameter."""
        return twiml(instructions, settings.twilio)

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of a status callback of the call or of its stream."""
        return twilio_report(fields(request))


def twilio_report(values: Mapping[str, str]) -> CallReport | None:
    """Returns the content of a status callback with Twilio's fields."""
    return call_report(
        values,
        call=("CallSid",),
        status=("StreamEvent", "CallStatus"),
        stream=("StreamSid",),
        key=("SequenceNumber", "Timestamp"),
        reason=("StreamError", "ErrorMessage", "SipResponseCode"),
    )


def _authorize(request: IncomingRequest, url: str, settings: Settings) -> Authorization:
    twilio = settings.twilio
    return authorize(twilio, twilio.accounts, lambda account: _require_signature(request, url, account))


def _require_signature(request: IncomingRequest, url: str, account: TwilioAccount) -> None:
    key, algorithm = _key(signatures.signature_settings(request.headers.get(signatures.SETTINGS_HEADER, "")), account)
    signature = request.headers.get(signatures.HEADER)
    if not signature:
        raise UnauthorizedError(f"the header {signatures.HEADER} is missing")
    if not signatures.verify(key, url, signature, request.form, algorithm):
        raise UnauthorizedError(
            f"{signatures.HEADER} is wrong for {without_query(url)}: does Twilio use AUDIOTEXT_PUBLIC_URL?"
        )
    if request.body and not request.form:
        # If the body is not a form, the signed URL contains its hash.
        signed_hash = dict(parse_qsl(urlsplit(url).query)).get("bodySHA256", "")
        if not hmac.compare_digest(signed_hash.encode(), hashlib.sha256(request.body).hexdigest().encode()):
            raise UnauthorizedError("the body differs from the signed one")


def _key(signature_settings: Mapping[str, str], account: TwilioAccount) -> tuple[str, signatures.Hash]:
    """Returns the secret and the hash function of a signature with these settings. Raises UnauthorizedError."""
    name = signature_settings.get("algorithm", "HMAC_SHA1").upper()
    algorithm = _ALGORITHMS.get(name)
    if algorithm is None:
        raise UnauthorizedError(f"unknown signature algorithm {name[:40]}: one of {', '.join(_ALGORITHMS)}")
    if "key" in signature_settings or algorithm != "sha1":
        secret = account.signing_keys.get(signature_settings.get("key", ""))
        if secret is None:
            raise UnauthorizedError("the request is signed with a key that is not in AUDIOTEXT_TWILIO__SIGNING_KEYS")
    else:
        secret = account.auth_token
    if secret is None or not secret.get_secret_value():
        raise UnauthorizedError("no token is configured: set AUDIOTEXT_TWILIO__AUTH_TOKEN")
    return secret.get_secret_value(), algorithm


CARRIER: Carrier = Twilio()
