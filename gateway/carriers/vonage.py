"""Vonage WebSockets: one text message in JSON, then PCM in binary messages of 20 ms, then the close of the socket.

Source: https://developer.vonage.com/en/voice/voice-api/concepts/websockets
A socket carries one leg. Vonage names neither its party nor its call, so the headers of the NCCO's endpoint must: they
come back in the first message (`call_id`, and `track` unless it is the caller's). Webhooks have a signed JWT as bearer
token. The NCCO defines the Authorization header of the upgrade request.
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
    """Decodes one socket, which is one stream. stream_id: a random one, because Vonage has none."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._audio: PcmStream | None = None
        self._track = "inbound"
        self._digits = 0

    def text(self, data: bytes) -> Sequence[Message]:
        """Decodes the first message, a keypad digit, or another text message. Raises CarrierError."""
        try:
            values = _decode(data)
        except REFUSALS as error:
            messages = read_repaired(data, self.text)
            if messages is not None:
                return messages
            raise CarrierError(f"malformed message: {error}") from None
        event = values.get("event")
        if event == _CONNECTED:
            return (self._stream_start(values),)
        if event == "websocket:dtmf":
            digit = values.get("digit")
            if not isinstance(digit, str) or not 0 < len(digit) <= 8:
                raise CarrierError("dtmf without a digit")
            self._digits += 1
            return (Dtmf(self._track, digit, self._digits),)
        return (Ignored(str(event)[:40]),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Decodes audio. Raises CarrierError."""
        if self._audio is None:
            raise CarrierError(f"audio before {_CONNECTED}")
        return self._audio.frames(data)

    def _stream_start(self, values: dict[str, Any]) -> StreamStart:
        headers = texts({name: value for name, value in values.items() if name not in ("event", "content-type")})
        call_id = next((headers[name] for name in _CALL_ID_HEADERS if headers.get(name)), "")
        if not call_id:
            raise StartError("call_id is missing: add it to the headers of the NCCO's websocket endpoint")
        track = headers.get("track", "inbound")
        if track not in TRACKS:
            raise StartError(f"unknown track {track[:40]!r}: one of {', '.join(TRACKS)}")
        audio = media_format(text(values.get("content-type")), 0)
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
    """Adapter for Vonage."""

    subprotocols: Sequence[str] = ()
    token_at_start = True  # without `authorization`, an NCCO has only its headers, which come in the first message

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires HTTP Basic credentials, an allowed address, or both."""
        own = settings.vonage
        return authorize(own, own.accounts, lambda account: require_credentials(request, account, _SECTION))

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the signed token or, without a configured signature secret, the same as a socket."""
        own = settings.vonage
        return authorize(own, own.accounts, lambda account: _require_webhook(request, account))

    def decoder(self, _settings: Settings) -> Decoder:
        """Returns a decoder for one socket."""
        return VonageDecoder(uuid.uuid4().hex)

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns the id of the caller's leg."""
        return first(fields(request), "uuid", "conversation_uuid")

    def answer(self, instructions: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Returns an NCCO that speaks a text and connects the caller with the media socket until the time is over."""
        token = instructions.token
        headers = {"call_id": instructions.call_id, "track": "inbound", "tenant": instructions.tenant, "token": token}
        uri = instructions.stream_url
        endpoint = {"type": "websocket", "uri": uri, "content-type": _CONTENT_TYPE, "headers": headers}
        if token:
            endpoint |= {"authorization": {"type": "custom", "value": f"Bearer {token}"}}
        plan = settings.vonage
        said = [{"action": "talk", "text": plan.spoken}] if plan.spoken else []
        connect = {"action": "connect", "eventUrl": [instructions.status_url], "endpoint": [endpoint]}
        ncco = [*said, connect | {"limit": plan.message_s}]
        return VoiceResponse(msgspec.json.encode(ncco).decode(), "application/json")

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of an event webhook."""
        return call_report(
            fields(request),
            call=("uuid", "conversation_uuid"),
            status=("status",),
            key=("timestamp",),
            reason=("reason", "sip_code"),
        )


def _require_webhook(request: IncomingRequest, account: VonageAccount) -> None:
    if account.signature_secret is None:
        require_credentials(request, account, _SECTION)
        return
    require_peer(request, account, _SECTION)
    token, secret = credentials(request, "bearer"), account.signature_secret.get_secret_value()
    try:
        verify_webhook(secret, token, request.target, request.body, request.at_s)
    except SignedWebhookError as error:
        raise UnauthorizedError(f"{error}: check {_SECTION}__SIGNATURE_SECRET") from None


CARRIER: Carrier = Vonage()
