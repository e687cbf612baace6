"""What the octets of each codec are: how long they last, and at which rates somebody here decodes them.

On the log a payload is always an octet string that may be joined with the next one:
PCMU, PCMA: an octet a sample. L16: 16-bit samples, **little-endian** whatever the wire has. G722: an octet for two
samples. OPUS: packets, which have no end mark of their own, so each is preceded by its length (see `framed`).
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
"""Samples per second of the audio (not of RTP's clock, which is 8000 for G.722), by codec, that can be recorded."""

OPUS_CLOCK_HZ = 48000
"""What Opus counts in, whatever is in it (RFC 7587)."""

_MAX_PACKET_SAMPLES = 5760  # 120 ms at 48 kHz: RFC 6716, 3.2
_LENGTH = struct.Struct(">H")

# Samples at 48 kHz per frame by configuration, the upper five bits of a packet's first octet: RFC 6716, table 2.
_OPUS_FRAME = (
    *(480, 960, 1920, 2880) * 3,  # SILK
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # CELT
)

SamplesOf = Callable[[bytes], int]
"""Payload to the number of samples (of one channel) it lasts."""


class PayloadError(ValueError):
    """Octets that are no audio of their codec."""


def samples_of(codec: Codec, rate_hz: int) -> SamplesOf:
    """How to measure a payload without decoding it. Raises KeyError for a codec and rate that RATES has not."""
    if rate_hz not in RATES[codec]:
        raise KeyError(f"{codec} at {rate_hz} Hz")
    if codec is Codec.OPUS:
        return lambda payload: sum(map(opus_samples, packets(payload))) * rate_hz // OPUS_CLOCK_HZ
    return _MEASURES[codec]


_MEASURES: Mapping[Codec, SamplesOf] = {
    Codec.PCMU: len,
    Codec.PCMA: len,
    Codec.L16: lambda payload: len(payload) // 2,
    Codec.G722: lambda payload: len(payload) * 2,
}


def framed(packet: bytes) -> bytes:
    """A packet as it stands in a payload: its length (16 bits, big-endian), then itself. Raises PayloadError."""
    if len(packet) > 0xFFFF:
        raise PayloadError("a packet of more than 65535 bytes")
    return _LENGTH.pack(len(packet)) + packet


def packets(payload: bytes) -> Iterator[bytes]:
    """The packets of a payload. What is cut short at its end is left out: a recording needs the rest of it."""
    position = 0
    while position + 2 <= len(payload):
        (length,) = _LENGTH.unpack_from(payload, position)
        packet = payload[position + 2 : position + 2 + length]
        if len(packet) < length:
            return
        yield packet
        position += 2 + length


def opus_samples(packet: bytes) -> int:
    """Samples at 48 kHz in an Opus packet, 0 for what is none."""
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
