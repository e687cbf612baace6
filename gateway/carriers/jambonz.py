"""jambonz `listen`: one text message in JSON, then PCM in binary messages, then the close of the socket.

Sources: https://docs.jambonz.org/verbs/verbs/listen. The merge of `metadata` into the first message is in jambonz's
lib/tasks/listen.js; its own fields in that message are in lib/session/call-info.js.
With mixType "stereo" the two channels are the two parties, the caller first. "mono" is the caller. "mixed" has both
parties in one channel; they cannot be separated, and are recorded as inbound.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from core.settings import Settings
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
    VoiceResponse,
    checked_id,
)
from gateway.carriers.common.auth import authorize, require_credentials
from gateway.carriers.common.json_wire import REFUSALS, Counter, read_repaired, text, texts
from gateway.carriers.common.media_format import media_format
from gateway.carriers.common.raw_pcm import PcmStream
from gateway.carriers.common.webhook_fields import call_report, fields, first

_SUBPROTOCOL = "audio.jambonz.org"
_RATE_HZ = 16000


class _FirstMessage(msgspec.Struct):
    call_id: str = msgspec.field(name="callSid")
    rate_hz: Counter = msgspec.field(name="sampleRate")
    mix_type: Literal["mono", "stereo", "mixed"] = msgspec.field(name="mixType", default="mono")
    account: Any = msgspec.field(name="accountSid", default="")
    from_: Any = msgspec.field(name="from", default="")
    to: Any = ""


class _LaterMessage(msgspec.Struct):
    event: str = ""
    dtmf: str = ""


# Fields of the first message that are jambonz's own. The customer attached all others.
_OWN_FIELDS = frozenset({
    "callSid", "sampleRate", "mixType", "accountSid", "from", "to", "direction", "callId", "sipStatus", "sipReason",
    "callStatus", "callerId", "traceId", "applicationSid", "fsSipAddress", "fsPublicIp", "apiBaseUrl", "parentCallSid",
    "originatingSipIp", "originatingSipTrunkName", "duration",
})  # fmt: skip

_decode_first = msgspec.json.Decoder(dict[str, Any]).decode
_decode_later = msgspec.json.Decoder(_LaterMessage).decode


class JambonzDecoder:
    """Decodes one socket, which is one stream. stream_id: a random one, because jambonz has none."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._audio: PcmStream | None = None
        self._digits = 0

    def text(self, data: bytes) -> Sequence[Message]:
        """Decodes the first message, a keypad digit, or another text message. Raises CarrierError."""
        try:
            if self._audio is None:
                return (self._stream_start(data),)
            message = _decode_later(data)
        except REFUSALS as error:
            messages = read_repaired(data, self.text)
            if messages is not None:
                return messages
            if self._audio is None:
                raise StartError(f"malformed first message: {error}") from None
            raise CarrierError(f"malformed message: {error}") from None
        if message.event != "dtmf":
            return (Ignored(message.event[:40]),)
        if not 0 < len(message.dtmf) <= 8:
            raise CarrierError("dtmf without a digit")
        self._digits += 1
        return (Dtmf("inbound", message.dtmf, self._digits),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Decodes audio. Raises CarrierError."""
        if self._audio is None:
            raise CarrierError("audio before the first text message")
        return self._audio.frames(data)

    def _stream_start(self, data: bytes) -> StreamStart:
        values = _decode_first(data)
        first_message = msgspec.convert(values, _FirstMessage, strict=False)
        audio = media_format("L16", first_message.rate_hz)
        tracks = TRACKS if first_message.mix_type == "stereo" else TRACKS[:1]
        start = StreamStart(
            call_id=checked_id("callSid", first_message.call_id),
            stream_id=self._stream_id,
            account=text(first_message.account),
            tracks=tracks,
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            timed=False,
            from_number=text(first_message.from_),
            to_number=text(first_message.to),
            custom=texts({name: value for name, value in values.items() if name not in _OWN_FIELDS}),
        )
        self._audio = PcmStream(audio.rate_hz, tracks)
        return start


class Jambonz:
    """Adapter for jambonz."""

    subprotocols: Sequence[str] = (_SUBPROTOCOL,)
    token_at_start = False

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires HTTP Basic credentials, an allowed address, or both."""
        return _authorize(request, settings)

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the same as a socket."""
        return _authorize(request, settings)

    def decoder(self, _settings: Settings) -> Decoder:
        """Returns a decoder for one socket."""
        return JambonzDecoder(uuid.uuid4().hex)

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns the call_sid."""
        return first(fields(request), "call_sid")

    def answer(self, instructions: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Returns verbs: stream in the background, with the token as the password, then continue the call."""
        plan = settings.jambonz
        listen = {
            "enable": True,
            "url": instructions.stream_url,
            "mixType": "stereo",
            "passDtmf": True,
            "sampleRate": _RATE_HZ,
            "metadata": {"tenant": instructions.tenant},
            "wsAuth": {"username": "audiotext", "password": instructions.token},
        }
        verbs: list[dict[str, object]] = [{"verb": "config", "listen": listen}]
        if plan.spoken:
            verbs.append({"verb": "say", "text": plan.spoken})
        if plan.redirect:
            verbs.append({"verb": "redirect", "actionHook": plan.redirect})
        elif plan.dial and plan.dial.startswith(("sip:", "sips:")):
            verbs.append({"verb": "dial", "target": [{"type": "sip", "sipUri": plan.dial}]})
        elif plan.dial:
            verbs.append({"verb": "dial", "target": [{"type": "phone", "number": plan.dial}]})
        else:  # jambonz hangs up after the last verb
            verbs.append({"verb": "pause", "length": plan.message_s})
        return VoiceResponse(msgspec.json.encode(verbs).decode(), "application/json")

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of a call status webhook."""
        return call_report(
            fields(request),
            call=("call_sid",),
            status=("call_status",),
            reason=("sip_reason", "sip_status"),
        )


def _authorize(request: IncomingRequest, settings: Settings) -> Authorization:
    own = settings.jambonz
    return authorize(own, own.accounts, lambda account: require_credentials(request, account, "AUDIOTEXT_JAMBONZ"))


CARRIER: Carrier = Jambonz()
