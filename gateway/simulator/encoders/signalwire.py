"""SignalWire: Twilio's messages with UUIDs, and linear PCM on request."""

from collections.abc import Mapping, Sequence

from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, bearer, made_up_id
from gateway.simulator.encoders.twilio import TwilioSpeaker
from schemas.media import Codec


class SignalWire:
    """SignalWire's habits."""

    shape = Shape.TRACKS
    frame_ms = 20
    numbered = True
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.PCMU, 8000),
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 24000),
    )
    subprotocols: Sequence[str] = ()

    def ids(self) -> tuple[str, str]:
        """UUIDs."""
        return made_up_id(), made_up_id()

    def headers(self, secret: str, _socket_url: str) -> Mapping[str, str]:
        """The verb's `authBearerToken`."""
        return bearer(secret)

    def speaker(self, call: CallPlan) -> CarrierEncoder:
        """Speaks on one new socket."""
        return TwilioSpeaker(call, account="00000000-0000-0000-0000-000000000000")


DIALECT: Dialect = SignalWire()
