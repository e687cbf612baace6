"""jambonz `listen`: one text message with the call's attributes, then bare PCM, caller left; it just closes."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, bearer, made_up_id
from schemas.media import Codec


class JambonzSpeaker:
    """jambonz' messages of one call."""

    def __init__(self, call: CallPlan) -> None:
        self._call = call

    def opening(self) -> Sequence[str]:
        """The call's attributes."""
        call = self._call
        told = {
            "callSid": call.call_id,
            "accountSid": "00000000-0000-0000-0000-000000000000",
            "direction": "inbound",
            "from": call.from_number or "15550100",
            "to": call.to_number or "15550199",
            "callId": made_up_id(),
            "sipStatus": 200,
            "callStatus": "in-progress",
            "sampleRate": call.audio.rate_hz,
            "mixType": "stereo" if len(call.tracks) == 2 else "mono",
        } | dict(call.custom)
        return (json.dumps(told),)

    def media(self, frames: Sequence[Frame]) -> bytes:
        """The samples, interleaved."""
        return np.stack([np.frombuffer(frame.payload, "<i2") for frame in frames], axis=1).tobytes()

    def dtmf(self, digit: str) -> str:
        """`dtmf`."""
        return json.dumps({"event": "dtmf", "dtmf": digit, "duration": "1600"})

    def closing(self) -> Sequence[str]:
        """Nothing."""
        return ()


class Jambonz:
    """jambonz' habits."""

    shape = Shape.INTERLEAVED
    frame_ms = 20
    numbered = False
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.L16, 8000),
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 24000),
    )
    subprotocols: Sequence[str] = ("audio.jambonz.org",)

    def ids(self) -> tuple[str, str]:
        """UUIDs; that of the stream is told to nobody."""
        return made_up_id(), made_up_id()

    def headers(self, secret: str, _socket_url: str) -> Mapping[str, str]:
        """A bearer token."""
        return bearer(secret)

    def speaker(self, call: CallPlan) -> CarrierEncoder:
        """Speaks on one new socket."""
        return JambonzSpeaker(call)


DIALECT: Dialect = Jambonz()
