"""WAV files as telephone audio: one G.711 octet string per channel, 8 kHz."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas import g711
from schemas.media import Codec

RATE_HZ = 8000

# Format tags of RIFF's `fmt ` chunk.
_TAGS = {6: Codec.PCMA, 7: Codec.PCMU}
_EXTENSIBLE = 0xFFFE  # the tag proper then begins the sub-format, 24 bytes into the chunk

_ENCODE = {Codec.PCMU: g711.encode_ulaw, Codec.PCMA: g711.encode_alaw}


class AudioFileError(Exception):
    """A file that cannot be played; the message says why."""


def read(path: Path, codec: Codec) -> list[bytes]:
    """The file's channels as octets of the codec (PCMU or PCMA), 8,000 a second.

    A WAV that is in that codec and rate already is passed on octet by octet; anything else that soundfile reads is
    resampled and encoded. Raises AudioFileError.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            channels = _as_it_is(path.read_bytes(), codec)
            if channels is not None:
                return channels
        return _encoded(path, codec)
    except OSError as error:
        raise AudioFileError(f"{path}: {error.strerror or error}") from None


def _as_it_is(wav: bytes, codec: Codec) -> list[bytes] | None:
    """The channels of a WAV that needs no change, else None."""
    count = 0
    position = 12
    while position + 8 <= len(wav):
        name, size = struct.unpack_from("<4sI", wav, position)
        body = wav[position + 8 : position + 8 + size]
        if name == b"fmt " and len(body) >= 16:
            tag, channels, rate = struct.unpack_from("<HHI", body)
            if tag == _EXTENSIBLE and len(body) >= 26:
                (tag,) = struct.unpack_from("<H", body, 24)
            count = channels if _TAGS.get(tag) is codec and rate == RATE_HZ else 0
        elif name == b"data" and count:
            whole = len(body) - len(body) % count
            return [body[channel:whole:count] for channel in range(count)]
        position += 8 + size + size % 2  # chunks begin at even places
    return None


def _encoded(path: Path, codec: Codec) -> list[bytes]:
    try:
        import soundfile  # noqa: PLC0415  # both come with the extra `local`; a gateway has no use for them
        import soxr  # noqa: PLC0415
    except ImportError as error:
        raise AudioFileError(f"{path}: needs {error.name}: pip install 'audiotext[local]'") from None
    try:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioFileError(f"{path}: no audio file that can be read: {error}") from None
    if rate != RATE_HZ:
        samples = _clipped(soxr.resample(samples.astype(np.float32), rate, RATE_HZ))
    return [_ENCODE[codec](samples[:, channel]) for channel in range(samples.shape[1])]


def _clipped(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def frames_of(octets: bytes, codec: Codec, frame_bytes: int) -> Sequence[bytes]:
    """The octets in frames of one size; the last is filled up with silence."""
    silence = _ENCODE[codec](np.zeros(1, np.int16))
    padded = octets + silence * (-len(octets) % frame_bytes)
    return [padded[start : start + frame_bytes] for start in range(0, len(padded), frame_bytes)]
