"""Encoder for Asterisk AudioSocket: TCP packets with the call's UUID, the caller's samples, and a hang-up."""

import uuid
from collections.abc import Mapping, Sequence

from gateway.carriers.audiosocket import DTMF, HANG_UP, HEADER, RATES_HZ, UUID
from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, UnsupportedPlayError, random_id
from schemas.media import Codec

_KINDS = {rate_hz: kind for kind, rate_hz in RATES_HZ.items()}


def _packet(kind: int, content: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(content)) + content


class AudioSocketEncoder:
    """Encoder of one call, whose id must be a UUID."""

    def __init__(self, call: CallPlan) -> None:
        try:
            self._identity = uuid.UUID(call.call_id)
        except ValueError:
            raise UnsupportedPlayError(f"{call.call_id} is not a valid call id: AudioSocket needs a UUID") from None
        if call.from_number or call.to_number:
            raise UnsupportedPlayError("AudioSocket has no phone numbers: remove --from and --to")
        self._kind = _KINDS[call.audio.rate_hz]

    def opening(self) -> Sequence[bytes]:
        """Returns the UUID."""
        return (_packet(UUID, self._identity.bytes),)

    def media(self, frames: Sequence[Frame]) -> bytes:
        """Returns the samples."""
        return _packet(self._kind, frames[0].payload)

    def dtmf(self, digit: str) -> bytes:
        """Returns the digit."""
        return _packet(DTMF, digit.encode())

    def closing(self) -> Sequence[bytes]:
        """Returns the hang-up."""
        return (_packet(HANG_UP),)


class AudioSocket:
    """Asterisk's protocol."""

    shape = Shape.MONO
    frame_ms = 20
    numbered = False
    formats: Sequence[MediaFormat] = (
        MediaFormat(Codec.L16, 8000),
        MediaFormat(Codec.L16, 16000),
        MediaFormat(Codec.L16, 24000),
    )
    subprotocols: Sequence[str] = ()

    def ids(self) -> tuple[str, str]:
        """Returns UUIDs. The stream id is not sent."""
        return random_id(), random_id()

    def headers(self, _secret: str, _socket_url: str) -> Mapping[str, str]:
        """Returns nothing: there is no HTTP request."""
        return {}

    def encoder(self, call: CallPlan) -> CarrierEncoder:
        """Returns an encoder for one new connection."""
        return AudioSocketEncoder(call)


DIALECT: Dialect = AudioSocket()
