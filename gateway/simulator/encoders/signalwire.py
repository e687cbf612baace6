"""Encoder for SignalWire: Twilio's messages with UUIDs, and linear PCM if configured."""

from collections.abc import Sequence

from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import BearerHandshake, CallPlan, CarrierEncoder, Dialect, Shape
from gateway.simulator.encoders.twilio import TwilioEncoder
from schemas.media import Codec


class SignalWire(BearerHandshake):
    """SignalWire's protocol."""

    shape = Shape.TRACKS
    frame_ms = 20
    numbered = True
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.PCMU, 8000),
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 24000),
    )

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""
        return TwilioEncoder(call, account="00000000-0000-0000-0000-000000000000")


DIALECT: Dialect = SignalWire()
