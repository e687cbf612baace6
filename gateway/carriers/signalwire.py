"""SignalWire (cXML): Twilio's messages, UUIDs for ids, and linear PCM beside mu-law.

Source: https://developer.signalwire.com/compatibility-api/cxml/voice/stream
No page says which byte order L16 has; its codec names go straight into speech engines that want little-endian.
"""

from collections.abc import Sequence

from audiotext.settings import Settings
from gateway.access import require_bearer
from gateway.carriers import Carrier, Decoder, Proof, twilio
from schemas.media import Codec

_CODECS = frozenset({Codec.PCMU, Codec.PCMA, Codec.L16})
_TOKEN = "AUDIOTEXT_SIGNALWIRE__STREAM_TOKEN"


class SignalWire:
    """SignalWire, as the gateway sees it."""

    subprotocols: Sequence[str] = ()

    def tenant(self, settings: Settings) -> str:
        """The one tenant of the configured account."""
        return settings.signalwire.tenant

    def authorize_socket(self, proof: Proof, settings: Settings) -> None:
        """The verb's `authBearerToken` comes back as a bearer token."""
        require_bearer(proof, settings.signalwire.stream_token, _TOKEN)

    def authorize_webhook(self, proof: Proof, settings: Settings) -> None:
        """Likewise."""
        require_bearer(proof, settings.signalwire.stream_token, _TOKEN)

    def decoder(self, settings: Settings) -> Decoder:
        """A decoder for one socket."""
        return twilio.TwilioDecoder(_CODECS, settings.signalwire.l16_byte_order)

    def answer(self, stream_url: str) -> str | None:
        """cXML says this exactly as TwiML does."""
        return twilio.CARRIER.answer(stream_url)


CARRIER: Carrier = SignalWire()
