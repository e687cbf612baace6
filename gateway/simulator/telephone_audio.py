"""Conversion of audio files into the frames that a carrier sends, for each channel."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
import soxr

from core.audio import g711
from gateway.simulator.audio_files import AudioFileError, find_wav_data, read_samples
from schemas.media import Codec

_G711_HZ = 8000

# Format tags of RIFF's `fmt ` chunk.
_TAGS = {6: Codec.PCMA, 7: Codec.PCMU}

_ENCODE = {Codec.PCMU: g711.encode_ulaw, Codec.PCMA: g711.encode_alaw}


def frames(path: Path, codec: Codec, rate_hz: int, frame_ms: int) -> list[list[bytes]]:
    """Returns the frames of each channel; silence fills up the last frame. L16 is little-endian.

    rate_hz: of the audio, 8000 for PCMU and PCMA. An Opus frame is one packet. Raises AudioFileError.
    """
    length = rate_hz * frame_ms // 1000
    if codec in _ENCODE:
        return [list(frames_of(data, codec, length)) for data in read(path, codec)]
    samples = _pcm(path, rate_hz)
    samples = np.pad(samples, ((0, -len(samples) % length), (0, 0)))
    channels = [samples[:, channel].copy() for channel in range(samples.shape[1])]
    return [list(_FRAMES[codec](channel, rate_hz, length)) for channel in channels]


def _l16(samples: npt.NDArray[np.int16], _rate_hz: int, length: int) -> Iterator[bytes]:
    for start in range(0, len(samples), length):
        yield samples[start : start + length].astype("<i2").tobytes()


def _g722(samples: npt.NDArray[np.int16], rate_hz: int, length: int) -> Iterator[bytes]:
    data = b"".join(_packets("g722", samples, rate_hz, length))
    for start in range(0, len(data), length // 2):
        yield data[start : start + length // 2]


def _opus(samples: npt.NDArray[np.int16], rate_hz: int, length: int) -> Iterator[bytes]:
    return _packets("libopus", samples, rate_hz, length)


def _packets(
    name: Literal["g722", "libopus"], samples: npt.NDArray[np.int16], rate_hz: int, length: int
) -> Iterator[bytes]:
    encoder = av.CodecContext.create(name, "w")
    encoder.sample_rate, encoder.format, encoder.layout = rate_hz, "s16", "mono"
    for start in range(0, len(samples), length):
        frame = av.AudioFrame.from_ndarray(samples[start : start + length].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, start
        yield from map(bytes, encoder.encode(frame))
    yield from map(bytes, encoder.encode(None))


_Frames = Callable[[npt.NDArray[np.int16], int, int], Iterator[bytes]]
_FRAMES: dict[Codec, _Frames] = {Codec.L16: _l16, Codec.G722: _g722, Codec.OPUS: _opus}


def read(path: Path, codec: Codec) -> list[bytes]:
    """Returns the channels as bytes of the codec (PCMU or PCMA), 8,000 a second.

    The bytes of a WAV file that already has this codec and rate stay unchanged. Other audio is resampled and encoded.
    Raises AudioFileError.
    """
    try:
        channels = _unchanged(path, codec)
    except (AudioFileError, OSError) as error:
        raise _error_of(path, error) from None
    if channels is not None:
        return channels
    samples = _pcm(path, _G711_HZ)
    return [_ENCODE[codec](samples[:, channel]) for channel in range(samples.shape[1])]


def _unchanged(path: Path, codec: Codec) -> list[bytes] | None:
    """Returns the channels of a WAV file that needs no change, else None. Raises AudioFileError, OSError."""
    with path.open("rb") as file:
        wav = find_wav_data(file)
        if wav is None or _TAGS.get(wav.tag) is not codec or wav.rate_hz != _G711_HZ:
            return None
        file.seek(wav.position)
        body = file.read(wav.size - wav.size % wav.channels)
    return [body[channel :: wav.channels] for channel in range(wav.channels)]


def _pcm(path: Path, rate_hz: int) -> npt.NDArray[np.int16]:
    """Returns int16[samples, channels] at this rate. Raises AudioFileError."""
    try:
        samples, rate = read_samples(path)
    except (AudioFileError, OSError) as error:
        raise _error_of(path, error) from None
    if rate != rate_hz:
        samples = _clipped(soxr.resample(samples.astype(np.float32), rate, rate_hz))
    return np.asarray(samples, np.int16)


def _error_of(path: Path, error: Exception) -> AudioFileError:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return AudioFileError(f"{path}: {text}")


def _clipped(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def frames_of(data: bytes, codec: Codec, frame_bytes: int) -> Sequence[bytes]:
    """Returns the bytes in frames of one size; silence fills up the last frame."""
    silence = _ENCODE[codec](np.zeros(1, np.int16))
    padded = data + silence * (-len(data) % frame_bytes)
    return [padded[start : start + frame_bytes] for start in range(0, len(padded), frame_bytes)]
