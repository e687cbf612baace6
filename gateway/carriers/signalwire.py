"""SignalWire (cXML): Twilio's messages, UUIDs for ids, and linear PCM beside mu-law.

Sources: https://developer.signalwire.com/compatibility-api/cxml/voice/stream, and for the signatures
https://signalwire.com/docs/swml/guides/webhook-security and signalwire-sdk 3.7 (core/security/webhook_validator.py).
No page says which byte order L16 has; its codec names go straight into speech engines that want little-endian.
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
    """SignalWire, as the gateway sees it."""

    subprotocols: Sequence[str] = ()
    token_at_start = False

    def authorize_socket(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """The verb's `authBearerToken` comes back as a bearer token."""
        own = settings.signalwire
        return authorize(own, own.accounts, lambda account: require_bearer(proof, account.stream_token, _TOKEN))

    def authorize_webhook(self, proof: IncomingRequest, settings: Settings) -> Authorization:
        """A webhook is signed over its URL and its body or form."""
        own, url = settings.signalwire, settings.base_url + proof.target
        return authorize(own, own.accounts, lambda account: _require_signature(proof, url, account))

    def decoder(self, settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return twilio.TwilioDecoder(_CODECS, settings.signalwire.l16_byte_order)

    def asked_for(self, proof: IncomingRequest) -> str:
        """The CallSid."""
        return first(fields(proof), "CallSid")

    def answer(self, offer: StreamInstructions, settings: Settings) -> VoiceResponse | None:
        """cXML says this as TwiML does; the token comes back with the upgrade."""
        bearer = f" authBearerToken={quoteattr(offer.token)}" if offer.token else ""
        return twiml(offer, settings.signalwire, stream_attributes=bearer)

    def report(self, proof: IncomingRequest) -> CallReport | None:
        """As Twilio's."""
        return twilio.twilio_report(fields(proof))


def _require_signature(proof: IncomingRequest, url: str, account: SignalWireAccount) -> None:
    """Passes what one of the signatures is right for. SignalWire signs over the body as it came (hexadecimal, either
    hash), and cXML's forms as Twilio does (base64); its own SDKs try both on whatever comes, and so must we."""
    key = account.signing_key.get_secret_value() if account.signing_key else ""
    if not key:
        raise UnauthorizedError("no signing key is configured: set AUDIOTEXT_SIGNALWIRE__SIGNING_KEY")
    given = [(proof.headers[name], algorithm) for name, algorithm in _SIGNATURES if proof.headers.get(name)]
    if not given:
        raise UnauthorizedError(f"no {_SIGNATURES[0][0]}")
    if not any(_fits(key, url, signature, proof, algorithm) for signature, algorithm in given):
        raise UnauthorizedError(
            f"the signature is not right for {without_query(url)}: is AUDIOTEXT_PUBLIC_URL what SignalWire uses?"
        )


def _fits(key: str, url: str, signature: str, proof: IncomingRequest, algorithm: signatures.Hash) -> bool:
    if signatures.verify_body(key, url, signature, proof.body, algorithm):
        return True
    signs_all = bool(proof.form) or not proof.body  # as a form: of another body nothing would be signed
    return signs_all and signatures.verify(key, url, signature, proof.form, algorithm)


CARRIER: Carrier = SignalWire()
