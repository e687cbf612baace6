"""Encoder for jambonz `listen`: one text message with the call's attributes, then raw PCM, the caller left."""

import json
from collections.abc import Sequence

import numpy as np

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import BearerHandshake, CallPlan, CarrierEncoder, Dialect, Shape, random_id
from schemas.media import Codec


class JambonzEncoder:
    """Encoder of one call."""

    def __init__(self, call: CallPlan) -> None:
        self._call = call

    def opening(self) -> Sequence[str]:
        """Returns the call's attributes."""
        call = self._call
        message = {
            "callSid": call.call_id,
            "accountSid": "00000000-0000-0000-0000-000000000000",
            "direction": "inbound",
            "from": call.from_number or "15550100",
            "to": call.to_number or "15550199",
            "callId": random_id(),
            "sipStatus": 200,
            "callStatus": "in-progress",
            "sampleRate": call.audio.rate_hz,
            "mixType": "stereo" if len(call.tracks) == 2 else "mono",
        } | dict(call.custom)
        return (json.dumps(message),)

    def media(self, frames: Sequence[Frame]) -> bytes:
        """Returns the samples, interleaved."""
        return np.stack([np.frombuffer(frame.payload, "<i2") for frame in frames], axis=1).tobytes()

    def dtmf(self, digit: str) -> str:
        """Returns `dtmf`."""
        return json.dumps({"event": "dtmf", "dtmf": digit, "duration": "1600"})

    def closing(self) -> Sequence[str]:
        """Returns nothing: the carrier only closes the socket."""
        return ()


class Jambonz(BearerHandshake):
    """jambonz' protocol."""

    shape = Shape.INTERLEAVED
    frame_ms = 20
    numbered = False
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.L16, 8000),
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 24000),
    )
    subprotocols: Sequence[str] = ("audio.jambonz.org",)

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""
        return JambonzEncoder(call)


DIALECT: Dialect = Jambonz()
