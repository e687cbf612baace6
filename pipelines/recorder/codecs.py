"""Decoders by codec: the payloads of one stretch of audio, in order, to 16-bit samples.

G.722 and Opus remember what they have decoded, so a decoder belongs to one stretch of one track and is told its
payloads one after the other. What schemas.codecs says a payload lasts is what comes out, to the sample.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt

from core.audio.g711 import decode_alaw, decode_ulaw
from schemas.codecs import OPUS_CLOCK_HZ, RATES, opus_samples, packets
from schemas.media import Codec

Samples = npt.NDArray[np.int16]

_NOTHING = np.zeros(0, np.int16)


class Decoder(Protocol):
    """Decodes one stretch. rate_hz: of the samples it gives."""

    rate_hz: int

    def decode(self, payload: bytes) -> Samples:
        """The samples of the stretch's next payload."""


class _Memoryless:
    """A codec whose octets mean the same wherever they stand."""

    def __init__(self, decode: Callable[[bytes], Samples], rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._decode = decode

    def decode(self, payload: bytes) -> Samples:
        return self._decode(payload)


class _G722:
    rate_hz = 16000

    def __init__(self) -> None:
        self._context = av.CodecContext.create("g722", "r")
        self._context.sample_rate = self.rate_hz
        self._context.layout = "mono"

    def decode(self, payload: bytes) -> Samples:
        return _decoded(self._context, payload)


class _Opus:
    rate_hz = OPUS_CLOCK_HZ

    def __init__(self) -> None:
        # libopus and not FFmpeg's own: that one gives a packet's samples later than the packet.
        self._context = av.CodecContext.create("libopus", "r")
        self._context.sample_rate = self.rate_hz
        self._context.layout = "mono"

    def decode(self, payload: bytes) -> Samples:
        return np.concatenate([_NOTHING, *(self._packet(packet) for packet in packets(payload))])

    def _packet(self, packet: bytes) -> Samples:
        length = opus_samples(packet)
        if length == 0:
            return _NOTHING
        try:
            decoded = _decoded(self._context, packet)[:length]
        except av.FFmpegError:
            decoded = _NOTHING
        # A packet that cannot be decoded, or not all of it, is silence of its length: what follows keeps its place.
        return np.pad(decoded, (0, length - len(decoded)))


def _decoded(context: av.AudioCodecContext, octets: bytes) -> Samples:
    frames = context.decode(av.Packet(octets))
    return np.concatenate([_NOTHING, *(np.asarray(frame.to_ndarray(), np.int16).ravel() for frame in frames)])


def _l16(payload: bytes) -> Samples:
    return np.frombuffer(payload[: len(payload) & ~1], "<i2").astype(np.int16, copy=False)


_MAKERS: Mapping[Codec, Callable[[int], Decoder]] = {
    Codec.PCMU: lambda rate_hz: _Memoryless(decode_ulaw, rate_hz),
    Codec.PCMA: lambda rate_hz: _Memoryless(decode_alaw, rate_hz),
    Codec.L16: lambda rate_hz: _Memoryless(_l16, rate_hz),
    Codec.G722: lambda _rate_hz: _G722(),
    Codec.OPUS: lambda _rate_hz: _Opus(),
}


def decodable(codec: Codec, rate_hz: int) -> bool:
    """Whether there is a decoder of the codec at this rate."""
    return codec in _MAKERS and rate_hz in RATES[codec]


def decoder(codec: Codec, rate_hz: int) -> Decoder:
    """A new decoder. Raises KeyError for what is not decodable."""
    if not decodable(codec, rate_hz):
        raise KeyError(f"{codec} at {rate_hz} Hz")
    return _MAKERS[codec](rate_hz)
