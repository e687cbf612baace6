"""Payloads of each codec: their duration, and the sample rates that can be recorded.

On the log a payload is always a byte string that may be joined with the next one.
PCMU, PCMA: one byte per sample. L16: 16-bit samples, **little-endian** whatever the carrier sends. G722: one byte per
two samples. OPUS: packets, which have no end mark, so each is preceded by its length (see `with_length`).
"""

import struct
from collections.abc import Callable, Iterator, Mapping

from schemas.media import Codec

RATES: Mapping[Codec, frozenset[int]] = {
    Codec.PCMU: frozenset({8000}),
    Codec.PCMA: frozenset({8000}),
    Codec.G722: frozenset({16000}),
    Codec.L16: frozenset({8000, 12000, 16000, 24000, 32000, 48000}),
    Codec.OPUS: frozenset({8000, 12000, 16000, 24000, 48000}),
}
"""Sample rates that can be recorded, by codec: of the audio, not of RTP's clock, which is 8000 for G.722."""

OPUS_CLOCK_HZ = 48000
"""Clock of Opus, whatever the audio's rate (RFC 7587)."""

_MAX_PACKET_SAMPLES = 5760  # 120 ms at 48 kHz: RFC 6716, 3.2
_LENGTH = struct.Struct(">H")

# Samples at 48 kHz per frame by configuration, the upper five bits of a packet's first byte: RFC 6716, table 2.
_OPUS_FRAME = (
    *(480, 960, 1920, 2880) * 3,  # SILK
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # CELT
)

SamplesOf = Callable[[bytes], int]
"""Function from a payload to its number of samples (of one channel)."""


class PayloadError(ValueError):
    """Bytes that are not audio of their codec."""


def samples_of(codec: Codec, rate_hz: int) -> SamplesOf:
    """Returns the function that measures a payload without decoding it.

    Raises KeyError for a codec and rate that are not in RATES.
    """
    if rate_hz not in RATES[codec]:
        raise KeyError(f"unsupported codec {codec} at {rate_hz} Hz")
    if codec is Codec.OPUS:
        return lambda payload: sum(map(opus_samples, packets(payload))) * rate_hz // OPUS_CLOCK_HZ
    return _MEASURES[codec]


_MEASURES: Mapping[Codec, SamplesOf] = {
    Codec.PCMU: len,
    Codec.PCMA: len,
    Codec.L16: lambda payload: len(payload) // 2,
    Codec.G722: lambda payload: len(payload) * 2,
}


def with_length(packet: bytes) -> bytes:
    """Returns a packet as it is in a payload: its length (16 bits, big-endian), then its bytes. Raises PayloadError."""
    if len(packet) > 0xFFFF:
        raise PayloadError("a packet has more than 65535 bytes")
    return _LENGTH.pack(len(packet)) + packet


def packets(payload: bytes) -> Iterator[bytes]:
    """Yields the packets of a payload. Leaves out an incomplete packet at its end, so that the rest is recorded."""
    position = 0
    while position + 2 <= len(payload):
        (length,) = _LENGTH.unpack_from(payload, position)
        packet = payload[position + 2 : position + 2 + length]
        if len(packet) < length:
            return
        yield packet
        position += 2 + length


def opus_samples(packet: bytes) -> int:
    """Returns the number of samples at 48 kHz in an Opus packet, 0 for an invalid packet."""
    if not packet:
        return 0
    match packet[0] & 3:
        case 0:
            count = 1
        case 3:
            count = packet[1] & 0x3F if len(packet) > 1 else 0
        case _:
            count = 2
    samples = _OPUS_FRAME[packet[0] >> 3] * count
    return samples if samples <= _MAX_PACKET_SAMPLES else 0
