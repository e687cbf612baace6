"""Decoders by codec: convert the payloads of continuous audio, in order, to 16-bit samples.

G.722 and Opus are stateful, so a decoder belongs to one continuous part of one track and gets its payloads in order.
A payload gives exactly as many samples as schemas.codecs calculates for it.
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
    """Decoder of one continuous part of a track. rate_hz: rate of the decoded samples."""

    rate_hz: int

    def decode(self, payload: bytes) -> Samples:
        """Returns the samples of the next payload."""
        ...


class _Stateless:
    """Codec without state: each byte has the same meaning everywhere."""

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
        # libopus instead of FFmpeg's decoder, which returns the samples of a packet later than with the packet.
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
        # A packet that cannot be decoded completely is padded with silence, so that later audio keeps its position.
        return np.pad(decoded, (0, length - len(decoded)))


def _decoded(context: av.AudioCodecContext, data: bytes) -> Samples:
    frames = context.decode(av.Packet(data))
    return np.concatenate([_NOTHING, *(np.asarray(frame.to_ndarray(), np.int16).ravel() for frame in frames)])


def _l16(payload: bytes) -> Samples:
    return np.frombuffer(payload[: len(payload) & ~1], "<i2").astype(np.int16, copy=False)


_DECODERS: Mapping[Codec, Callable[[int], Decoder]] = {
    Codec.PCMU: lambda rate_hz: _Stateless(decode_ulaw, rate_hz),
    Codec.PCMA: lambda rate_hz: _Stateless(decode_alaw, rate_hz),
    Codec.L16: lambda rate_hz: _Stateless(_l16, rate_hz),
    Codec.G722: lambda _rate_hz: _G722(),
    Codec.OPUS: lambda _rate_hz: _Opus(),
}


def is_decodable(codec: Codec, rate_hz: int) -> bool:
    """True if there is a decoder for the codec at this rate."""
    return codec in _DECODERS and rate_hz in RATES[codec]


def new_decoder(codec: Codec, rate_hz: int) -> Decoder:
    """Returns a new decoder.

    Raises:
        KeyError: There is no decoder for the codec at this rate.
    """
    if not is_decodable(codec, rate_hz):
        raise KeyError(f"unsupported codec {codec} at {rate_hz} Hz")
    return _DECODERS[codec](rate_hz)
