"""Encoder for Twilio: string counters. `sequenceNumber` counts all messages from `start`, `chunk` per track."""

import base64
import json
import uuid
from collections.abc import Mapping, Sequence

from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.carriers.common.signatures import HEADER, sign
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape
from schemas.media import Codec

_ENCODINGS = {Codec.PCMU: "audio/x-mulaw", Codec.PCMA: "audio/x-alaw", Codec.L16: "audio/x-l16"}


class TwilioEncoder:
    """Encoder of one stream."""

    def __init__(self, call: CallPlan, account: str = "AC" + "0" * 32) -> None:
        self._call = call
        self._account = account
        self._sequence = 0

    def opening(self) -> Sequence[str]:
        """Returns `connected` and `start`."""
        call = self._call
        start = {
            "accountSid": self._account,
            "streamSid": call.stream_id,
            "callSid": call.call_id,
            "tracks": list(call.tracks),
            "mediaFormat": {
                "encoding": _ENCODINGS[call.audio.codec],
                "sampleRate": call.audio.rate_hz,
                "channels": 1,
            },
            "customParameters": {**call.party_parameters(), **call.custom},
        }
        return (
            json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            self._message("start", start),
        )

    def media(self, frames: Sequence[Frame]) -> str:
        """Returns `media`."""
        (frame,) = frames
        return self._message(
            "media",
            {
                "track": frame.track,
                "chunk": str(frame.seq),
                "timestamp": str(frame.ts_ms),
                "payload": base64.b64encode(frame.payload).decode(),
            },
        )

    def dtmf(self, digit: str) -> str:
        """Returns `dtmf`."""
        return self._message("dtmf", {"track": "inbound_track", "digit": digit})

    def closing(self) -> Sequence[str]:
        """Returns `stop`."""
        return (self._message("stop", {"accountSid": self._account, "callSid": self._call.call_id}),)

    def _message(self, event: str, body: Mapping[str, object]) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequenceNumber": str(self._sequence), "streamSid": self._call.stream_id, event: body}
        )


class Twilio:
    """Twilio's protocol."""

    shape = Shape.TRACKS
    frame_ms = 20
    numbered = True
    formats: Sequence[MediaFormat] = (MediaFormat(Codec.PCMU, 8000), MediaFormat(Codec.PCMA, 8000))
    subprotocols: Sequence[str] = ()

    def ids(self) -> tuple[str, str]:
        """Returns CA… and MZ…."""
        return f"CA{uuid.uuid4().hex}", f"MZ{uuid.uuid4().hex}"

    def headers(self, secret: str, socket_url: str) -> Mapping[str, str]:
        """Returns the signature of the URL with the account's auth token."""
        return {HEADER: sign(secret, socket_url)}

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new socket."""
        return TwilioEncoder(call)


DIALECT: Dialect = Twilio()
