"""Asterisk AudioSocket: packets over TCP; the call's UUID, the caller's samples, a hang-up."""

import uuid
from collections.abc import Mapping, Sequence

from gateway.carriers.audiosocket import DTMF, HANG_UP, HEADER, RATES_HZ, UUID
from gateway.carriers.base import Frame
from gateway.carriers.common.media_format import MediaFormat
from gateway.simulator.encoders import CallPlan, CarrierEncoder, Dialect, Shape, UnsupportedPlayError, made_up_id
from schemas.media import Codec

_KINDS = {rate_hz: kind for kind, rate_hz in RATES_HZ.items()}


def _packet(kind: int, content: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(content)) + content


class AudioSocketSpeaker:
    """Asterisk's packets of one call, whose id must be a UUID."""

    def __init__(self, call: CallPlan) -> None:
        try:
            self._identity = uuid.UUID(call.call_id)
        except ValueError:
            raise UnsupportedPlayError(f"a call's id must be a UUID in AudioSocket: {call.call_id} is none") from None
        if call.from_number or call.to_number:
            raise UnsupportedPlayError("AudioSocket carries no numbers: leave --from and --to out")
        self._kind = _KINDS[call.audio.rate_hz]

    def opening(self) -> Sequence[bytes]:
        """The UUID."""
        return (_packet(UUID, self._identity.bytes),)

    def media(self, frames: Sequence[Frame]) -> bytes:
        """The samples."""
        return _packet(self._kind, frames[0].payload)

    def dtmf(self, digit: str) -> bytes:
        """The digit."""
        return _packet(DTMF, digit.encode())

    def closing(self) -> Sequence[bytes]:
        """The hang-up."""
        return (_packet(HANG_UP),)


class AudioSocket:
    """Asterisk's habits."""

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
        """UUIDs; that of the stream is told to nobody."""
        return made_up_id(), made_up_id()

    def headers(self, _secret: str, _socket_url: str) -> Mapping[str, str]:
        """None: there is no request."""
        return {}

    def speaker(self, call: CallPlan) -> CarrierEncoder:
        """Speaks on one new connection."""
        return AudioSocketSpeaker(call)


DIALECT: Dialect = AudioSocket()
