"""G.711 codec by table look-up, bit-exact with ITU-T G.711 (and with Python's former `audioop`).

Samples have 16 bits; the codes quantise their upper 13 bits (mu-law: 14 bits). A-law bytes have the even bits inverted
and mu-law bytes are complemented, as on the wire.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]


def _ulaw_decode_table() -> Pcm:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    return np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)


def _alaw_decode_table() -> Pcm:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    step = (code & 0x0F) << 4
    segment = (code & 0x70) >> 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _every_sample() -> npt.NDArray[np.int32]:
    """Returns all 16-bit samples; the index of a sample is its bits as an unsigned number."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)


def _ulaw_encode_table() -> npt.NDArray[np.uint8]:
    sample = _every_sample() >> 2
    negative = sample < 0
    magnitude = np.minimum(np.abs(sample), 8159) + 33
    segment = np.clip(np.floor(np.log2(magnitude)).astype(np.int32) - 5, 0, 7)
    code = np.where(magnitude > 8191, 0x7F, (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F))
    return ((code ^ np.where(negative, 0x7F, 0xFF)) & 0xFF).astype(np.uint8)


def _alaw_encode_table() -> npt.NDArray[np.uint8]:
    sample = _every_sample() >> 3
    positive = sample >= 0
    magnitude = np.where(positive, sample, -sample - 1)
    log2 = np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32)
    segment = np.where(magnitude <= 31, 0, log2 - 4)
    mantissa = np.where(segment < 2, magnitude >> 1, magnitude >> np.maximum(segment, 1)) & 0x0F
    code = np.where(segment >= 8, 0x7F, (segment << 4) | mantissa)
    return (code ^ np.where(positive, 0xD5, 0x55)).astype(np.uint8)


ULAW_DECODE: Pcm = _ulaw_decode_table()
"""Sample of each mu-law byte: int16[256]."""

ALAW_DECODE: Pcm = _alaw_decode_table()
"""Sample of each A-law byte: int16[256]."""

_ULAW_ENCODE = _ulaw_encode_table()
_ALAW_ENCODE = _alaw_encode_table()


def decode_ulaw(payload: bytes) -> Pcm:
    """Returns one sample per mu-law byte."""
    return ULAW_DECODE[np.frombuffer(payload, np.uint8)]


def decode_alaw(payload: bytes) -> Pcm:
    """Returns one sample per A-law byte."""
    return ALAW_DECODE[np.frombuffer(payload, np.uint8)]


def encode_ulaw(pcm: npt.NDArray[Any]) -> bytes:
    """Returns one mu-law byte per 16-bit sample."""
    return _ULAW_ENCODE[np.asarray(pcm, np.int16).view(np.uint16)].tobytes()


def encode_alaw(pcm: npt.NDArray[Any]) -> bytes:
    """Returns one A-law byte per 16-bit sample."""
    return _ALAW_ENCODE[np.asarray(pcm, np.int16).view(np.uint16)].tobytes()
