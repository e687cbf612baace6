"""Vonage WebSockets: one text message in JSON, then PCM in binary messages of 20 ms; the socket's close is the end.

Source: https://developer.vonage.com/en/voice/voice-api/concepts/websockets
A socket carries one leg, and Vonage says neither whose nor of which call: the headers of the NCCO's endpoint, which
come back in the first message, have to (`call_id`, and `track` unless it is the caller's). Webhooks bring a signed JWT
as bearer token; what the upgrade brings as Authorization is what the NCCO says.
"""

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from core.settings import Settings, VonageAccount
from gateway.carriers.base import (
    TRACKS,
    Authorization,
    CallReport,
    Carrier,
    CarrierError,
    Decoder,
    Dtmf,
    Ignored,
    IncomingRequest,
    Message,
    StartError,
    StreamInstructions,
    StreamStart,
    UnauthorizedError,
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common.auth import authorize, credentials, require_credentials, require_peer
from gateway.carriers.common.json_wire import REFUSALS, read_repaired, text, texts
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.raw_pcm import PcmStream
from gateway.carriers.common.signed_jwt import SignedWebhookError, verify_webhook
from gateway.carriers.common.webhook_fields import call_report, fields, first

_CONNECTED = "websocket:connected"
_CONTENT_TYPE = "audio/l16;rate=16000"
_SECTION = "AUDIOTEXT_VONAGE"
_CALL_ID_HEADERS = ("call_id", "conversation_uuid", "uuid")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class VonageDecoder:
    """Decodes one socket, which is one stream. stream_id: a made-up one, since Vonage has none."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._audio: PcmStream | None = None
        self._track = "inbound"
        self._digits = 0

    def text(self, data: bytes) -> Sequence[Message]:
        """The first message, a keypad digit, or whatever else Vonage may say. Raises CarrierError."""
        try:
            told = _decode(data)
        except REFUSALS as error:
            messages = read_repaired(data, self.text)
            if messages is not None:
                return messages
            raise CarrierError(f"malformed message: {error}") from None
        event = told.get("event")
        if event == _CONNECTED:
            return (self._stream_start(told),)
        if event == "websocket:dtmf":
            digit = told.get("digit")
            if not isinstance(digit, str) or not 0 < len(digit) <= 8:
                raise CarrierError("dtmf without a digit")
            self._digits += 1
            return (Dtmf(self._track, digit, self._digits),)
        return (Ignored(str(event)[:40]),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Audio. Raises CarrierError."""
        if self._audio is None:
            raise CarrierError(f"audio before {_CONNECTED}")
        return self._audio.frames(data)

    def _stream_start(self, told: dict[str, Any]) -> StreamStart:
        headers = texts({name: value for name, value in told.items() if name not in ("event", "content-type")})
        call_id = next((headers[name] for name in _CALL_ID_HEADERS if headers.get(name)), "")
        if not call_id:
            raise StartError("no call_id: put one into the headers of the NCCO's websocket endpoint")
        track = headers.get("track", "inbound")
        if track not in TRACKS:
            raise StartError(f"track {track[:40]!r} is none of {', '.join(TRACKS)}")
        audio = media_format(text(told.get("content-type")), 0)
        start = StreamStart(
            call_id=checked_id("call_id", call_id),
            stream_id=self._stream_id,
            account=headers.get("account", ""),
            tracks=(track,),
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            timed=False,
            from_number=headers.get("from", ""),
            to_number=headers.get("to", ""),
            custom=headers,
        )
        if self._audio is None:
            self._track = track
            self._audio = PcmStream(audio.rate_hz, (track,))
        return start


class Vonage:
    """Vonage, as the gateway sees it."""

    subprotocols: Sequence[str] = ()
    token_at_start = True  # an NCCO without `authorization` has its headers only, which come with the first message

    def authorize_socket(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """By HTTP Basic credentials or address."""
        own = settings.vonage
        return authorize(own, own.accounts, lambda account: require_credentials(proof, account, _SECTION))

    def authorize_webhook(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """By the signed token or, where no signature secret is configured, as a socket."""
        own = settings.vonage
        return authorize(own, own.accounts, lambda account: _require_webhook(proof, account))

    def decoder(self, _settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return VonageDecoder(uuid.uuid4().hex)

    def asked_for(self, proof: IncomingRequest) -> str:
        """The caller's leg."""
        return first(fields(proof), "uuid", "conversation_uuid")

    def answer(self, offer: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """An NCCO: connect the caller with our socket. What the caller hears from there is silence."""
        headers = {"call_id": offer.call_id, "track": "inbound", "tenant": offer.tenant, "token": offer.token}
        endpoint = {"type": "websocket", "uri": offer.stream_url, "content-type": _CONTENT_TYPE, "headers": headers}
        if offer.token:
            endpoint |= {"authorization": {"type": "custom", "value": f"Bearer {offer.token}"}}
        said = [{"action": "talk", "text": settings.vonage.say}] if settings.vonage.say else []
        ncco = [*said, {"action": "connect", "eventUrl": [offer.status_url], "endpoint": [endpoint]}]
        return VoiceResponse(msgspec.json.encode(ncco).decode(), "application/json")

    def report(self, proof: IncomingRequest) -> CallReport | None:
        """An event webhook."""
        return call_report(
            fields(proof),
            call=("uuid", "conversation_uuid"),
            status=("status",),
            key=("timestamp",),
            reason=("reason", "sip_code"),
        )


def _require_webhook(proof: IncomingRequest, account: VonageAccount) -> None:
    if account.signature_secret is None:
        require_credentials(proof, account, _SECTION)
        return
    require_peer(proof, account, _SECTION)
    token, secret = credentials(proof, "bearer"), account.signature_secret.get_secret_value()
    try:
        verify_webhook(secret, token, proof.target, proof.body, proof.at_s)
    except SignedWebhookError as error:
        raise UnauthorizedError(f"{error}: is {_SECTION}__SIGNATURE_SECRET that of the account?") from None


CARRIER: Carrier = Vonage()
