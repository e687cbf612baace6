"""Encoder for Exotel: snake case, string values, 100 ms of little-endian PCM in a message, the caller only."""

import base64
import json
import uuid
from collections.abc import Mapping, Sequence

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, bearer
from schemas.media import Codec

_ACCOUNT = "exotel-account"


class ExotelEncoder:
    """Encoder of one stream."""

    def __init__(self, call: CallPlan) -> None:
        self._call = call
        self._sequence = 0

    def opening(self) -> Sequence[str]:
        """Returns `connected` and `start`."""
        call = self._call
        start = {
            "stream_sid": call.stream_id,
            "call_sid": call.call_id,
            "account_sid": _ACCOUNT,
            "from": call.from_number or "+915550100",
            "to": call.to_number or "+915550199",
            "custom_parameters": dict(call.custom),
            "media_format": {"encoding": "audio/x-raw", "sample_rate": str(call.audio.rate_hz), "bit_rate": "16"},
        }
        return json.dumps({"event": "connected"}), self._message("start", start)

    def media(self, frames: Sequence[Frame]) -> str:
        """Returns `media`."""
        (frame,) = frames
        return self._message(
            "media",
            {
                "chunk": str(frame.seq),
                "timestamp": str(frame.ts_ms),
                "payload": base64.b64encode(frame.payload).decode(),
            },
        )

    def dtmf(self, digit: str) -> str:
        """Returns `dtmf`."""
        return self._message("dtmf", {"digit": digit, "duration": "100"})

    def closing(self) -> Sequence[str]:
        """Returns `stop`."""
        return (
            self._message("stop", {"call_sid": self._call.call_id, "account_sid": _ACCOUNT, "reason": "callended"}),
        )

    def _message(self, event: str, body: Mapping[str, object]) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequence_number": str(self._sequence), "stream_sid": self._call.stream_id, event: body}
        )


class Exotel:
    """Exotel's protocol."""

    shape = Shape.MONO
    frame_ms = 100
    numbered = True
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.L16, 8000),
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 24000),
    )
    subprotocols: Sequence[str] = ()

    def ids(self) -> tuple[str, str]:
        """Returns 32 hexadecimal digits each."""
        return uuid.uuid4().hex, uuid.uuid4().hex

    def headers(self, secret: str, _socket_url: str) -> Mapping[str, str]:
        """Returns a bearer token."""
        return bearer(secret)

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""
        return ExotelEncoder(call)


DIALECT: Dialect = Exotel()
