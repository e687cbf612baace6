"""Writes the WAV file and the waveform of a layout, in slices.

So a call of four hours needs no more memory than one of a minute. The file has 16-bit PCM and always two channels:
inbound left, outbound right. The header of a WAV file has 32-bit sizes. A file above 4 GB (37 hours at 8 kHz, six at
48 kHz) is an RF64 file, with 64-bit sizes: EBU Tech 3306, https://tech.ebu.ch/docs/tech/tech3306v1_0.pdf.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.recorder.codecs import Samples
from pipelines.recorder.decoding import Load, samples_of
from pipelines.recorder.timeline import TRACKS, Layout, Segment
from schemas.artifacts import Peaks

CHANNELS = len(TRACKS)
_FRAME_BYTES = 2 * CHANNELS
_RIFF = struct.Struct("<4sI4s")
_DS64 = struct.Struct("<4sIQQQI")
_FORMAT = struct.Struct("<4sIHHIIHH")
_DATA = struct.Struct("<4sI")
_IN_DS64 = 0xFFFFFFFF

PEAKS_PER_S = 25
MAX_PEAKS = 20_000  # more than the width of any screen; a long call gets coarser peaks
SLICE_S = 30


@dataclass(frozen=True, slots=True)
class Rendered:
    """SHA-256 (hex) and size (bytes) of the written file, and its waveform."""

    sha256: str
    size: int
    peaks: Peaks


def wav_header(samples: int, rate_hz: int) -> bytes:
    """Returns the header for `samples` samples per channel: 44 bytes, or the 80 of an RF64 file."""
    size = samples * _FRAME_BYTES
    form = _FORMAT.pack(b"fmt ", 16, 1, CHANNELS, rate_hz, rate_hz * _FRAME_BYTES, _FRAME_BYTES, 16)
    rest = len(b"WAVE") + len(form) + _DATA.size + size
    if rest < _IN_DS64:
        return _RIFF.pack(b"RIFF", rest, b"WAVE") + form + _DATA.pack(b"data", size)
    ds64 = _DS64.pack(b"ds64", _DS64.size - 8, rest + _DS64.size, size, samples, 0)
    return _RIFF.pack(b"RF64", _IN_DS64, b"WAVE") + ds64 + form + _DATA.pack(b"data", _IN_DS64)


def samples_per_peak(length: int, rate_hz: int) -> int:
    """Returns the number of samples per pair of values in the waveform of `length` samples."""
    return max(rate_hz // PEAKS_PER_S, -(-length // MAX_PEAKS))


def write_wav(layout: Layout, load: Load, path: Path) -> Rendered:
    """Writes the WAV file. The same layout and samples give the same bytes.

    Raises:
        OSError: The file cannot be written.
    """
    per_peak = samples_per_peak(layout.length, layout.rate_hz)
    # A slice has complete peaks, so that no peak spans two slices.
    slice_length = per_peak * max(1, SLICE_S * layout.rate_hz // per_peak)
    digest = hashlib.sha256()
    peaks: list[list[int]] = [[] for _ in TRACKS]
    with path.open("wb") as file:
        for chunk in _chunks(layout, load, slice_length, per_peak, peaks):
            digest.update(chunk)
            file.write(chunk)
    waveform = Peaks(rate_hz=layout.rate_hz, samples_per_peak=per_peak, channels=peaks)
    return Rendered(digest.hexdigest(), path.stat().st_size, waveform)


def _chunks(layout: Layout, load: Load, slice_length: int, per_peak: int, peaks: list[list[int]]) -> Iterator[bytes]:
    yield wav_header(layout.length, layout.rate_hz)
    channels = [_Channel(segments, samples_of(segments, load, layout.rate_hz)) for segments in layout.segments]
    overlays = [
        (number, _Channel(segments, samples_of(segments, load, layout.rate_hz))) for number, segments in layout.overlays
    ]
    for start in range(0, layout.length, slice_length):
        frames = np.zeros((min(slice_length, layout.length - start), CHANNELS), dtype="<i2")
        for number, channel in enumerate(channels):
            channel.fill(frames[:, number], start)
        for number, channel in overlays:
            channel.mix(frames[:, number], start)
        for number, pairs in enumerate(peaks):
            pairs.extend(_peaks(frames[:, number], per_peak))
        yield frames.tobytes()


class _Channel:
    """Reads the segments of one track in order. A segment that spans two slices is decoded once."""

    def __init__(self, segments: Sequence[Segment], samples: Iterator[Samples]) -> None:
        self._segments = segments
        self._samples = samples
        self._next = 0
        self._decoded: tuple[int, Samples] = (-1, np.empty(0, np.int16))

    def fill(self, target: npt.NDArray[np.int16], start: int) -> None:
        """Copies the samples of [start, start + len(target)) to the target. Invoke it with increasing `start`."""
        for place, samples in self._between(start, start + len(target)):
            target[place] = samples

    def mix(self, target: npt.NDArray[np.int16], start: int) -> None:
        """Adds the samples to those of the target in the same way, and clips the sum to 16 bits."""
        for place, samples in self._between(start, start + len(target)):
            target[place] = np.clip(target[place].astype(np.int32) + samples, -32768, 32767)

    def _between(self, start: int, end: int) -> Iterator[tuple[slice, Samples]]:
        while self._next < len(self._segments) and self._segments[self._next].start < end:
            segment = self._segments[self._next]
            begin, until = max(segment.start, start), min(segment.start + segment.length, end)
            if self._decoded[0] != self._next:
                self._decoded = (self._next, next(self._samples))
            yield slice(begin - start, until - start), self._decoded[1][begin - segment.start : until - segment.start]
            if segment.start + segment.length > end:
                return
            self._next += 1


def _peaks(samples: npt.NDArray[np.int16], per_peak: int) -> list[int]:
    """Returns the minimum and maximum of each `per_peak` samples, in 8 bits."""
    starts = np.arange(0, len(samples), per_peak)
    pairs = np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)], axis=1) >> 8
    flat: list[int] = pairs.ravel().tolist()
    return flat
