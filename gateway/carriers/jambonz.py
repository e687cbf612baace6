"""jambonz `listen`: one text message in JSON, then PCM in binary messages; the socket's close is the end.

Source: https://docs.jambonz.org/verbs/verbs/listen; that `metadata` is merged into the first message, beside what
jambonz says of the call, is in its lib/tasks/listen.js, and what that is in its lib/session/call-info.js.
With mixType "stereo" the two parties are the two channels, caller first. "mono" is the caller, "mixed" is both in
one channel; what cannot be told apart is recorded as inbound.
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
_HOLD_S = 3600  # a call whose verbs have run out is hung up


class _First(msgspec.Struct):
    callSid: str
    sampleRate: Counter
    mixType: Literal["mono", "stereo", "mixed"] = "mono"
    accountSid: Any = ""
    from_: Any = msgspec.field(name="from", default="")
    to: Any = ""


class _Later(msgspec.Struct):
    event: str = ""
    dtmf: str = ""


# What jambonz says itself, besides the above: all else is what the customer attached.
_ITS_OWN = frozenset({
    "callSid", "sampleRate", "mixType", "accountSid", "from", "to", "direction", "callId", "sipStatus", "sipReason",
    "callStatus", "callerId", "traceId", "applicationSid", "fsSipAddress", "fsPublicIp", "apiBaseUrl", "parentCallSid",
    "originatingSipIp", "originatingSipTrunkName", "duration",
})  # fmt: skip

_decode_first = msgspec.json.Decoder(dict[str, Any]).decode
_decode_later = msgspec.json.Decoder(_Later).decode


class JambonzDecoder:
    """Decodes one socket, which is one stream. stream_id: a made-up one, since jambonz has none."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._audio: PcmStream | None = None
        self._digits = 0

    def text(self, data: bytes) -> Sequence[Message]:
        """The first message, a keypad digit, or whatever else jambonz may say. Raises CarrierError."""
        try:
            if self._audio is None:
                return (self._stream_start(data),)
            told = _decode_later(data)
        except REFUSALS as error:
            messages = read_repaired(data, self.text)
            if messages is not None:
                return messages
            if self._audio is None:
                raise StartError(f"malformed first message: {error}") from None
            raise CarrierError(f"malformed message: {error}") from None
        if told.event != "dtmf":
            return (Ignored(told.event[:40]),)
        if not 0 < len(told.dtmf) <= 8:
            raise CarrierError("dtmf without a digit")
        self._digits += 1
        return (Dtmf("inbound", told.dtmf, self._digits),)

    def binary(self, data: bytes) -> Sequence[Message]:
        """Audio. Raises CarrierError."""
        if self._audio is None:
            raise CarrierError("audio before the first text message")
        return self._audio.frames(data)

    def _stream_start(self, data: bytes) -> StreamStart:
        everything = _decode_first(data)
        told = msgspec.convert(everything, _First, strict=False)
        audio = media_format("L16", told.sampleRate)
        tracks = TRACKS if told.mixType == "stereo" else TRACKS[:1]
        start = StreamStart(
            call_id=checked_id("callSid", told.callSid),
            stream_id=self._stream_id,
            account=text(told.accountSid),
            tracks=tracks,
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            timed=False,
            from_number=text(told.from_),
            to_number=text(told.to),
            custom=texts({name: value for name, value in everything.items() if name not in _ITS_OWN}),
        )
        self._audio = PcmStream(audio.rate_hz, tracks)
        return start


class Jambonz:
    """jambonz, as the gateway sees it."""

    subprotocols: Sequence[str] = (_SUBPROTOCOL,)
    token_at_start = False

    def authorize_socket(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """By HTTP Basic credentials or address."""
        return _authorize(proof, settings)

    def authorize_webhook(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """Likewise."""
        return _authorize(proof, settings)

    def decoder(self, _settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return JambonzDecoder(uuid.uuid4().hex)

    def asked_for(self, proof: IncomingRequest) -> str:
        """The call_sid."""
        return first(fields(proof), "call_sid")

    def answer(self, offer: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Verbs: listen in the background, the token as the password, then go on."""
        plan = settings.jambonz
        listen = {
            "enable": True,
            "url": offer.stream_url,
            "mixType": "stereo",
            "passDtmf": True,
            "sampleRate": _RATE_HZ,
            "metadata": {"tenant": offer.tenant},
            "wsAuth": {"username": "audiotext", "password": offer.token},
        }
        verbs: list[dict[str, object]] = [{"verb": "config", "listen": listen}]
        if plan.say:
            verbs.append({"verb": "say", "text": plan.say})
        if plan.redirect:
            verbs.append({"verb": "redirect", "actionHook": plan.redirect})
        elif plan.dial and plan.dial.startswith(("sip:", "sips:")):
            verbs.append({"verb": "dial", "target": [{"type": "sip", "sipUri": plan.dial}]})
        elif plan.dial:
            verbs.append({"verb": "dial", "target": [{"type": "phone", "number": plan.dial}]})
        else:
            verbs.append({"verb": "pause", "length": _HOLD_S})
        return VoiceResponse(msgspec.json.encode(verbs).decode(), "application/json")

    def report(self, proof: IncomingRequest) -> CallReport | None:
        """A call status webhook."""
        return call_report(
            fields(proof),
            call=("call_sid",),
            status=("call_status",),
            reason=("sip_reason", "sip_status"),
        )


def _authorize(proof: IncomingRequest, settings: Settings) -> Authorization:
    own = settings.jambonz
    return authorize(own, own.accounts, lambda account: require_credentials(proof, account, "AUDIOTEXT_JAMBONZ"))


CARRIER: Carrier = Jambonz()
