"""Codecs by the carriers' names for them, and conversion of the carriers' bytes into those of the log.

Carriers spell a codec in many ways (`audio/x-mulaw`, `PCMU`, `L16@16000h`, `audio/l16;rate=16000`), and a carrier may
change its spelling. So every spelling is valid for every carrier.
"""

import re
from array import array
from collections.abc import Callable, Collection
from dataclasses import dataclass

from core.counting import number_of
from gateway.carriers.base import ByteOrder, UnsupportedCodecError
from schemas.codecs import RATES, PayloadError, opus_samples, with_length
from schemas.media import Codec

_NAMES = {
    "pcmu": Codec.PCMU,
    "mulaw": Codec.PCMU,
    "ulaw": Codec.PCMU,
    "pcma": Codec.PCMA,
    "alaw": Codec.PCMA,
    "g722": Codec.G722,
    "l16": Codec.L16,
    "linear16": Codec.L16,
    "raw": Codec.L16,
    "slin": Codec.L16,
    "opus": Codec.OPUS,
}
_SPELLING = re.compile(r"(?:audio/)?(?:x-)?([a-z0-9]{1,20})(?:(?:; ?rate=|@)([0-9]{1,6})h?)?", re.ASCII)

_OPUS_BYTES_PER_S = 64_000  # the maximum (RFC 6716)

Normalise = Callable[[bytes], bytes]
"""Converts the bytes of one frame on the wire into those of the log. Raises PayloadError."""


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """Codec and sampling rate.

    rate_hz: of the audio. For G.722 it is 16000, twice the rate that RTP, and so most carriers, name.
    """

    codec: Codec
    rate_hz: int


def media_format(
    encoding: str, rate_hz: int, channels: int = 1, *, allowed: Collection[Codec] = frozenset(Codec)
) -> MediaFormat:
    """Returns the format of a start's encoding and rate. A rate in the encoding's name overrides `rate_hz`.

    Raises UnsupportedCodecError if the format cannot be recorded or is not allowed.
    """
    spelling = _SPELLING.fullmatch(encoding.lower())
    codec = _NAMES.get(spelling[1]) if spelling else None
    rate = int(spelling[2]) if spelling and spelling[2] else rate_hz
    if codec is Codec.G722 and rate == 8000:
        rate = 16000
    if codec is None or codec not in allowed or rate not in RATES[codec] or channels != 1:
        raise UnsupportedCodecError(
            f"cannot record {encoding[:40]} at {rate_hz} Hz with {number_of(channels, 'channel')}: "
            f"use {_choice(codec, allowed)}"
        )
    return MediaFormat(codec, rate)


def _choice(codec: Codec | None, allowed: Collection[Codec]) -> str:
    if codec is not None and codec in allowed:
        return f"{codec}, mono, {', '.join(map(str, sorted(RATES[codec])))} Hz"
    return ", ".join(one for one in Codec if one in allowed)


def normaliser(codec: Codec, byte_order: ByteOrder) -> Normalise | None:
    """Returns the function that converts frames into payloads of the log, or None if the bytes are equal."""
    match codec, byte_order:
        case Codec.L16, "little":
            return _whole_samples
        case Codec.L16, "big":
            return _swapped
        case Codec.OPUS, _:
            return _framed
    return None


def bytes_per_s(codec: Codec, rate_hz: int) -> int:
    """Returns the bytes of one second of one track. For Opus, whose rate varies, it returns the maximum."""
    match codec:
        case Codec.L16:
            return 2 * rate_hz
        case Codec.G722:
            return rate_hz // 2
        case Codec.OPUS:
            return _OPUS_BYTES_PER_S
        case _:
            return rate_hz


def _whole_samples(data: bytes) -> bytes:
    if len(data) % 2:
        raise PayloadError("the payload ends within a sample")
    return data


def _swapped(data: bytes) -> bytes:
    samples = array("h", _whole_samples(data))
    samples.byteswap()
    return samples.tobytes()


def _framed(packet: bytes) -> bytes:
    if opus_samples(packet) == 0:
        raise PayloadError("not an Opus packet")
    return with_length(packet)
