"""Decoders by codec: payload bytes of one run to 16-bit samples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.g711 import decode_alaw, decode_ulaw
from schemas.media import Codec

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Decoder:
    """decode: samples of a run's payload. count: how many they will be, without decoding."""

    decode: Callable[[bytes], Samples]
    count: Callable[[bytes], int]


_DECODERS: dict[tuple[Codec, int], Decoder] = {
    (Codec.PCMU, 8000): Decoder(decode_ulaw, len),
    (Codec.PCMA, 8000): Decoder(decode_alaw, len),
}


def decoder(codec: Codec, rate_hz: int) -> Decoder | None:
    """The decoder of a codec at a rate, or None if there is none."""
    return _DECODERS.get((codec, rate_hz))
