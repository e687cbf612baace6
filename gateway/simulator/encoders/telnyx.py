"""Encoder for Telnyx: snake case. `sequence_number` counts all messages from `start`, `chunk` counts per track."""

import base64
import json
from collections.abc import Mapping, Sequence

import numpy as np

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, bearer, random_id
from schemas.media import Codec

_USER = "3e6f995f-85f7-4705-9741-53b116d28237"


class TelnyxEncoder:
    """Encoder of one stream."""

    def __init__(self, call: CallPlan) -> None:
        self._call = call
        self._sequence = 0

    def opening(self) -> Sequence[str]:
        """Returns `connected` and `start`."""
        call = self._call
        # RTP's clock for G.722 is 8000 because of an old error (RFC 3551), and Telnyx sends that rate.
        rate_hz = 8000 if call.audio.codec is Codec.G722 else call.audio.rate_hz
        start: dict[str, object] = {
            "user_id": _USER,
            "call_control_id": call.call_id,
            "call_session_id": random_id(),
            "from": call.from_number or "+15550100",
            "to": call.to_number or "+15550199",
            "tags": [],
            "client_state": None,
            "custom_parameters": dict(call.custom),
            "media_format": {"encoding": call.audio.codec, "sample_rate": rate_hz, "channels": 1},
        }
        return json.dumps({"event": "connected", "version": "1.0.0"}), self._message("start", start)

    def media(self, frames: Sequence[Frame]) -> str:
        """Returns `media`. The payload is RTP's, so L16 is big-endian."""
        (frame,) = frames
        payload = frame.payload
        if self._call.audio.codec is Codec.L16:
            payload = np.frombuffer(payload, "<i2").astype(">i2").tobytes()
        return self._message(
            "media",
            {
                "track": frame.track,
                "chunk": str(frame.seq),
                "timestamp": str(frame.ts_ms),
                "payload": base64.b64encode(payload).decode(),
            },
        )

    def dtmf(self, digit: str) -> str:
        """Returns `dtmf`."""
        return self._message("dtmf", {"digit": digit})

    def closing(self) -> Sequence[str]:
        """Returns `stop`."""
        return (self._message("stop", {"user_id": _USER, "call_control_id": self._call.call_id}),)

    def _message(self, event: str, body: Mapping[str, object]) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequence_number": str(self._sequence), "stream_id": self._call.stream_id, event: body}
        )


class Telnyx:
    """Telnyx' protocol."""

    shape = Shape.TRACKS
    frame_ms = 20
    numbered = True
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.PCMU, 8000),
        MediaFormat(Codec.PCMA, 8000),
        MediaFormat(Codec.G722, 16000),
        MediaFormat(Codec.OPUS, 16000),
        MediaFormat(Codec.L16, 16000),
    )
    subprotocols: Sequence[str] = ()

    def ids(self) -> tuple[str, str]:
        """Returns v3:… and a UUID."""
        return f"v3:{random_id()}", random_id()

    def headers(self, secret: str, _socket_url: str) -> Mapping[str, str]:
        """Returns the `stream_auth_token` as a bearer token."""
        return bearer(secret)

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""
        return TelnyxEncoder(call)


DIALECT: Dialect = Telnyx()
