"""Encoder for Plivo: counters are numbers, timestamps are ms since the epoch, and there is no `connected`."""

import base64
import json
import time
from collections.abc import Mapping, Sequence

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import BearerHandshake, CallPlan, CarrierEncoder, Dialect, Shape
from schemas.media import Codec

_ENCODINGS = {Codec.PCMU: "audio/x-mulaw", Codec.L16: "audio/x-l16"}


class PlivoEncoder:
    """Encoder of one stream. epoch_ms: the begin of the stream, ms since the epoch."""

    def __init__(self, call: CallPlan, epoch_ms: int) -> None:
        self._call = call
        self._epoch_ms = epoch_ms
        self._sequence = -1

    def opening(self) -> Sequence[str]:
        """Returns `start`."""
        call = self._call
        start = {
            "callId": call.call_id,
            "streamId": call.stream_id,
            "accountId": "100001",
            "tracks": list(call.tracks),
            "mediaFormat": {"encoding": _ENCODINGS[call.audio.codec], "sampleRate": call.audio.rate_hz},
        }
        return (self._message("start", start),)

    def media(self, frames: Sequence[Frame]) -> str:
        """Returns `media`."""
        (frame,) = frames
        return self._message(
            "media",
            {
                "track": frame.track,
                "timestamp": str(self._epoch_ms + frame.ts_ms),
                "chunk": frame.seq,
                "payload": base64.b64encode(frame.payload).decode(),
            },
        )

    def dtmf(self, digit: str) -> str:
        """Returns `dtmf`."""
        return self._message("dtmf", {"track": "inbound", "digit": digit, "timestamp": str(self._epoch_ms)})

    def closing(self) -> Sequence[str]:
        """Returns `stop`."""
        return (self._message("stop", {"callId": self._call.call_id}),)

    def _message(self, event: str, body: Mapping[str, object]) -> str:
        self._sequence += 1
        return json.dumps(
            {
                "event": event,
                "sequenceNumber": self._sequence,
                "streamId": self._call.stream_id,
                event: body,
                "extra_headers": json.dumps({**self._call.party_parameters(), **self._call.custom}),
            }
        )


class Plivo(BearerHandshake):
    """Plivo's protocol."""

    shape = Shape.TRACKS
    frame_ms = 20
    numbered = True
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.PCMU, 8000),
        MediaFormat(Codec.L16, 8000),
        MediaFormat(Codec.L16, 16000),
    )

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""
        return PlivoEncoder(call, time.time_ns() // 1_000_000)


DIALECT: Dialect = Plivo()
