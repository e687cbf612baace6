"""Vonage: one text message with the NCCO's headers, then bare PCM of 20 ms; a socket a leg; it just closes."""

import json
from collections.abc import Mapping, Sequence

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, bearer, made_up_id
from schemas.media import Codec


class VonageSpeaker:
    """Vonage's messages of one leg."""

    def __init__(self, call: CallPlan) -> None:
        self._call = call

    def opening(self) -> Sequence[str]:
        """`websocket:connected`."""
        call = self._call
        told = {
            "event": "websocket:connected",
            "content-type": f"audio/l16;rate={call.audio.rate_hz}",
            **call.party_parameters(),
            **call.custom,
            "call_id": call.call_id,
            "track": call.tracks[0],
        }
        return (json.dumps(told),)

    def media(self, frames: Sequence[Frame]) -> bytes:
        """The samples."""
        return frames[0].payload

    def dtmf(self, digit: str) -> str:
        """`websocket:dtmf`."""
        return json.dumps({"event": "websocket:dtmf", "digit": digit, "duration": 260})

    def closing(self) -> Sequence[str]:
        """Nothing."""
        return ()


class Vonage:
    """Vonage's habits."""

    shape = Shape.LEGS
    frame_ms = 20
    numbered = False
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 8000),
        MediaFormat(Codec.L16, 24000),
    )
    subprotocols: Sequence[str] = ()

    def ids(self) -> tuple[str, str]:
        """UUIDs; that of the stream is told to nobody."""
        return made_up_id(), made_up_id()

    def headers(self, secret: str, _socket_url: str) -> Mapping[str, str]:
        """A bearer token."""
        return bearer(secret)

    def speaker(self, call: CallPlan) -> CarrierEncoder:
        """Speaks on one new socket."""
        return VonageSpeaker(call)


DIALECT: Dialect = Vonage()
