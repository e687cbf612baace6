"""Encoder for Vonage: one socket per leg, with one text message (the NCCO's headers), then raw PCM of 20 ms."""

import json
from collections.abc import Sequence

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import BearerHandshake, CallPlan, CarrierEncoder, Dialect, Shape
from schemas.media import Codec


class VonageEncoder:
    """Encoder of one leg."""

    def __init__(self, call: CallPlan) -> None:
        self._call = call

    def opening(self) -> Sequence[str]:
        """Returns `websocket:connected`."""
        call = self._call
        message = {
            "event": "websocket:connected",
            "content-type": f"audio/l16;rate={call.audio.rate_hz}",
            **call.party_parameters(),
            **call.custom,
            "call_id": call.call_id,
            "track": call.tracks[0],
        }
        return (json.dumps(message),)

    def media(self, frames: Sequence[Frame]) -> bytes:
        """Returns the samples."""
        return frames[0].payload

    def dtmf(self, digit: str) -> str:
        """Returns `websocket:dtmf`."""
        return json.dumps({"event": "websocket:dtmf", "digit": digit, "duration": 260})

    def closing(self) -> Sequence[str]:
        """Returns nothing: the carrier only closes the socket."""
        return ()


class Vonage(BearerHandshake):
    """Vonage's protocol."""

    shape = Shape.LEGS
    frame_ms = 20
    numbered = False
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 8000),
        MediaFormat(Codec.L16, 24000),
    )

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""
        return VonageEncoder(call)


DIALECT: Dialect = Vonage()
