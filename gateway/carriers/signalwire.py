"""SignalWire (cXML): Twilio's messages, with UUIDs as ids, and linear PCM beside mu-law.

Sources: https://developer.signalwire.com/compatibility-api/cxml/voice/stream, and for the signatures
https://signalwire.com/docs/swml/guides/webhook-security and signalwire-sdk 3.7 (core/security/webhook_validator.py).
The documentation does not define the byte order of L16; speech engines that use its codec names expect little-endian.
"""

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import quoteattr

from core.settings import Settings, SignalWireAccount
from gateway.carriers import twilio
from gateway.carriers.base import (
    Authorization,
    CallReport,
    Carrier,
    Decoder,
    IncomingRequest,
    StreamInstructions,
    UnauthorizedError,
    VoiceResponse,
)
from gateway.carriers.common import signatures
from gateway.carriers.common.auth import authorize, require_bearer, without_query
from gateway.carriers.common.voice_xml import twiml
from gateway.carriers.common.webhook_fields import fields, first
from schemas.media import Codec

_CODECS = frozenset({Codec.PCMU, Codec.PCMA, Codec.L16})
_SIGNATURES: Final[tuple[tuple[str, signatures.Hash], ...]] = (
    ("X-SignalWire-SHA256-Signature", "sha256"),
    ("X-SignalWire-Signature", "sha1"),
)
_TOKEN = "AUDIOTEXT_SIGNALWIRE__STREAM_TOKEN"


class SignalWire:
    """Adapter for SignalWire."""

    subprotocols: Sequence[str] = ()
    token_at_start = False

    def authorize_socket(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the verb's `authBearerToken` as a bearer token."""
        own = settings.signalwire
        return authorize(own, own.accounts, lambda account: require_bearer(request, account.stream_token, _TOKEN))

    def authorize_webhook(self, request: IncomingRequest, settings: Settings) -> Authorization:
        """Requires the signature over the URL and the body or form."""
        own, url = settings.signalwire, settings.base_url + request.target
        return authorize(own, own.accounts, lambda account: _require_signature(request, url, account))

    def decoder(self, settings: Settings) -> Decoder:
        """Returns a decoder for one socket."""
        return twilio.TwilioDecoder(_CODECS, settings.signalwire.l16_byte_order)

    def requested_call_id(self, request: IncomingRequest) -> str:
        """Returns the CallSid."""
        return first(fields(request), "CallSid")

    def answer(self, instructions: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """Returns cXML, which equals TwiML. The upgrade request presents the token."""
        bearer = f" authBearerToken={quoteattr(instructions.token)}" if instructions.token else ""
        return twiml(instructions, settings.signalwire, stream_attributes=bearer)

    def report(self, request: IncomingRequest) -> CallReport | None:
        """Returns the content of a status callback, which has Twilio's fields."""
        return twilio.twilio_report(fields(request))


def _require_signature(request: IncomingRequest, url: str, account: SignalWireAccount) -> None:
    """Requires one valid signature. Raises UnauthorizedError.

    SignalWire signs the bytes of the body (hexadecimal, either hash), and cXML's forms as Twilio does (base64). Its own
    SDKs try both for every request, so this function does the same.
    """
    key = account.signing_key.get_secret_value() if account.signing_key else ""
    if not key:
        raise UnauthorizedError("no signing key is configured: set AUDIOTEXT_SIGNALWIRE__SIGNING_KEY")
    given = [(request.headers[name], algorithm) for name, algorithm in _SIGNATURES if request.headers.get(name)]
    if not given:
        raise UnauthorizedError(f"the header {_SIGNATURES[0][0]} is missing")
    if not any(_fits(key, url, signature, request, algorithm) for signature, algorithm in given):
        raise UnauthorizedError(
            f"the signature is wrong for {without_query(url)}: does SignalWire use AUDIOTEXT_PUBLIC_URL?"
        )


def _fits(key: str, url: str, signature: str, request: IncomingRequest, algorithm: signatures.Hash) -> bool:
    if signatures.verify_body(key, url, signature, request.body, algorithm):
        return True
    covers_body = bool(request.form) or not request.body  # otherwise the signature would not cover the body
    return covers_body and signatures.verify(key, url, signature, request.form, algorithm)


CARRIER: Carrier = SignalWire()
