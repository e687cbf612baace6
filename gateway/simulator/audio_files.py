"""Reader of audio files: every sample format of WAV, and every format that FFmpeg reads. Broken files are errors."""

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt

from core.audio import g711
from core.errors import UserError

MAX_CHANNELS = 2

_RIFF = (b"RIFF", b"RF64")
_STREAMED = 0xFFFFFFFF  # size in a header written before the size was known; RF64 has the size elsewhere
_EXTENSIBLE = 0xFFFE  # the real tag is then at the beginning of the sub-format, 24 bytes into the chunk


class AudioFileError(UserError):
    """Audio file that cannot be played. The message gives the reason."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class WavData:
    """Position and format of the audio in a WAV file.

    tag: the number of the sample format. bits: of one sample. position, size: of the samples in the file (bytes).
    """

    tag: int
    channels: int
    rate_hz: int
    bits: int
    position: int
    size: int


def find_wav_data(file: BinaryIO) -> WavData | None:
    """Returns the position of the audio in a WAV file, or None if the file is not a WAV file.

    Raises AudioFileError if the file is broken or has more channels than a call.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] not in _RIFF or head[8:] != b"WAVE":
        return None
    form: tuple[int, int, int, int] | None = None
    size_64 = 0  # size of the audio, in RF64
    position = 12
    while position + 8 <= end:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"data":
            if form is None:
                raise AudioFileError("the file is broken: its audio comes before its format")
            return _checked(form, position, size_64 if size_64 and size == _STREAMED else size, end)
        body = file.read(min(size, 40))
        if name == b"ds64" and len(body) >= 16:
            (size_64,) = struct.unpack_from("<8xQ", body)
        if name == b"fmt ":
            if len(body) < 16:
                raise AudioFileError("the file is broken: its format chunk is too short")
            form = _form(body)
        position += size + size % 2  # chunks begin at even positions
    raise AudioFileError("the file has no audio: it is truncated or unfinished")


def _form(body: bytes) -> tuple[int, int, int, int]:
    tag, channels, rate_hz, bits = struct.unpack_from("<HHI6xH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        (tag,) = struct.unpack_from("<H", body, 24)
    return tag, channels, rate_hz, bits


def _checked(form: tuple[int, int, int, int], position: int, size: int, end: int) -> WavData:
    tag, channels, rate_hz, bits = form
    require_channels(channels)
    if rate_hz == 0:
        raise AudioFileError("the header has a sample rate of 0 Hz")
    if size == 0:
        raise AudioFileError("the header has an audio size of 0" + (", though audio follows" if end > position else ""))
    if size == _STREAMED:
        raise AudioFileError(
            "the header lacks the audio's size (the file was written to a pipe): convert it with FFmpeg"
        )
    if position + size > end:
        raise AudioFileError(f"the file is truncated: it has {end - position} of {size} bytes of audio")
    return WavData(tag, channels, rate_hz, bits, position, size)


def require_channels(channels: int) -> None:
    """Raises AudioFileError if a call cannot have this number of channels."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioFileError(f"the file has {channels} channels: use one, or two (left the caller, right the callee)")


def read_samples(path: Path) -> tuple[npt.NDArray[np.int16], int]:
    """Returns the audio as int16[samples, channels], and its rate (Hz). Raises AudioFileError, OSError."""
    with path.open("rb") as file:
        wav = find_wav_data(file)
        if wav is None or (wav.tag, wav.bits) not in _READ:
            file.seek(0)
            return _with_ffmpeg(file)
        frame_bytes = wav.channels * wav.bits // 8
        file.seek(wav.position)
        data = file.read(wav.size - wav.size % frame_bytes)
    if not data:
        raise AudioFileError("the file has no audio")
    return _int16(_READ[wav.tag, wav.bits](data)).reshape(-1, wav.channels), wav.rate_hz


def _int24(data: bytes) -> npt.NDArray[Any]:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4").reshape(-1)


_Read = Callable[[bytes], npt.NDArray[Any]]

# Keys: number of the sample format, bits of one sample.
_READ: Mapping[tuple[int, int], _Read] = {
    (1, 8): lambda data: np.frombuffer(data, np.uint8),
    (1, 16): lambda data: np.frombuffer(data, "<i2"),
    (1, 24): _int24,
    (1, 32): lambda data: np.frombuffer(data, "<i4"),
    (3, 32): lambda data: np.frombuffer(data, "<f4"),
    (3, 64): lambda data: np.frombuffer(data, "<f8"),
    (6, 8): g711.decode_alaw,
    (7, 8): g711.decode_ulaw,
}


def _with_ffmpeg(file: BinaryIO) -> tuple[npt.NDArray[np.int16], int]:
    try:
        with av.open(file, "r") as container:
            if not container.streams.audio:
                raise AudioFileError("the file has no audio")
            rate_hz = container.streams.audio[0].rate or 0
            decoded = []
            for frame in container.decode(audio=0):
                channels = len(frame.layout.channels)
                require_channels(channels)
                samples = frame.to_ndarray()
                decoded.append(_int16(samples.T if frame.format.is_planar else samples.reshape(-1, channels)))
    except av.error.FFmpegError as error:
        raise AudioFileError(f"FFmpeg cannot read the file: {error.strerror}") from None
    if not sum(map(len, decoded)):
        raise AudioFileError("the file has no audio")
    return np.concatenate(decoded), rate_hz


def _int16(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Returns the samples with 16 bits. Samples of other sizes are scaled, rounded and clipped."""
    match samples.dtype.kind, samples.dtype.itemsize:
        case "i", 2:
            return np.asarray(samples, np.int16)
        case "u", 1:
            return (samples.astype(np.int16) - 128) * 256
        case "i", size:
            scaled = samples / float(1 << (8 * size - 16))
        case _:
            scaled = np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=1.0, neginf=-1.0) * 32768
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)
