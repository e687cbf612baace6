"""A plan becomes a WAV file and its waveform, a slice of time at a time: a call of four hours needs no more memory
than one of a minute.

16-bit PCM, always two channels: inbound left, outbound right. A WAV's header has 32-bit sizes; what is larger than 4 GB
(37 hours at 8 kHz, six at 48) is an RF64, which is the same with 64-bit ones: EBU Tech 3306,
https://tech.ebu.ch/docs/tech/tech3306v1_0.pdf.
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
MAX_PEAKS = 20_000  # more than any screen is wide; a long call gets coarser ones
SLICE_S = 30


@dataclass(frozen=True, slots=True)
class Rendered:
    """sha256 (hex) and size (bytes) of the file written, and its waveform."""

    sha256: str
    size: int
    peaks: Peaks


def header(samples: int, rate_hz: int) -> bytes:
    """The canonical 44 bytes before `samples` samples per channel, or the 80 of an RF64."""
    size = samples * _FRAME_BYTES
    form = _FORMAT.pack(b"fmt ", 16, 1, CHANNELS, rate_hz, rate_hz * _FRAME_BYTES, _FRAME_BYTES, 16)
    rest = len(b"WAVE") + len(form) + _DATA.size + size
    if rest < _IN_DS64:
        return _RIFF.pack(b"RIFF", rest, b"WAVE") + form + _DATA.pack(b"data", size)
    ds64 = _DS64.pack(b"ds64", _DS64.size - 8, rest + _DS64.size, size, samples, 0)
    return _RIFF.pack(b"RF64", _IN_DS64, b"WAVE") + ds64 + form + _DATA.pack(b"data", _IN_DS64)


def samples_per_peak(length: int, rate_hz: int) -> int:
    """How many samples one pair of the waveform of `length` samples stands for."""
    return max(rate_hz // PEAKS_PER_S, -(-length // MAX_PEAKS))


def write(plan: Layout, load: Load, path: Path) -> Rendered:
    """Writes the WAV. The same plan and samples give the same bytes. Raises OSError."""
    per_peak = samples_per_peak(plan.length, plan.rate_hz)
    # Whole peaks in a slice, so that none has to be put together from two.
    slice_length = per_peak * max(1, SLICE_S * plan.rate_hz // per_peak)
    digest = hashlib.sha256()
    peaks: list[list[int]] = [[] for _ in TRACKS]
    with path.open("wb") as file:
        for chunk in _chunks(plan, load, slice_length, per_peak, peaks):
            digest.update(chunk)
            file.write(chunk)
    waveform = Peaks(rate_hz=plan.rate_hz, samples_per_peak=per_peak, channels=peaks)
    return Rendered(digest.hexdigest(), path.stat().st_size, waveform)


def _chunks(plan: Layout, load: Load, slice_length: int, per_peak: int, peaks: list[list[int]]) -> Iterator[bytes]:
    yield header(plan.length, plan.rate_hz)
    channels = [_Channel(segments, samples_of(segments, load, plan.rate_hz)) for segments in plan.segments]
    overlays = [
        (number, _Channel(segments, samples_of(segments, load, plan.rate_hz))) for number, segments in plan.overlays
    ]
    for start in range(0, plan.length, slice_length):
        frames = np.zeros((min(slice_length, plan.length - start), CHANNELS), dtype="<i2")
        for number, channel in enumerate(channels):
            channel.fill(frames[:, number], start)
        for number, channel in overlays:
            channel.mix(frames[:, number], start)
        for number, pairs in enumerate(peaks):
            pairs.extend(_peaks(frames[:, number], per_peak))
        yield frames.tobytes()


class _Channel:
    """Reads one track's segments in order. samples: of each of them; one that spans two slices is read once."""

    def __init__(self, segments: Sequence[Segment], samples: Iterator[Samples]) -> None:
        self._segments = segments
        self._samples = samples
        self._next = 0
        self._read: tuple[int, Samples] = (-1, np.empty(0, np.int16))

    def fill(self, target: npt.NDArray[np.int16], start: int) -> None:
        """Puts what lies in [start, start + len(target)) in its place. Called with rising `start`."""
        for place, samples in self._between(start, start + len(target)):
            target[place] = samples

    def mix(self, target: npt.NDArray[np.int16], start: int) -> None:
        """Likewise, but adds it to what is there; a sum that 16 bits cannot hold becomes the loudest sample."""
        for place, samples in self._between(start, start + len(target)):
            target[place] = np.clip(target[place].astype(np.int32) + samples, -32768, 32767)

    def _between(self, start: int, end: int) -> Iterator[tuple[slice, Samples]]:
        while self._next < len(self._segments) and self._segments[self._next].start < end:
            segment = self._segments[self._next]
            begin, until = max(segment.start, start), min(segment.start + segment.length, end)
            if self._read[0] != self._next:
                self._read = (self._next, next(self._samples))
            yield slice(begin - start, until - start), self._read[1][begin - segment.start : until - segment.start]
            if segment.start + segment.length > end:
                return
            self._next += 1


def _peaks(samples: npt.NDArray[np.int16], per_peak: int) -> list[int]:
    """min, max of each `per_peak` samples, in 8 bits."""
    starts = np.arange(0, len(samples), per_peak)
    pairs = np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)], axis=1) >> 8
    flat: list[int] = pairs.ravel().tolist()
    return flat
