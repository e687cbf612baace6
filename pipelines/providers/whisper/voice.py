"""Finds speech in a channel and divides it into chunks for a decoder.

The voice detector (Silero) is a recurrent network. Its state drifts during silence and noise: after ten seconds of
them it misses speech. Therefore the detector judges short windows, each with fresh state. It judges each moment that is
not quiet twice, in two windows that overlap.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

RATE_HZ = 16_000  # the rate of Whisper and of the voice detector
FRAME = 512  # samples for which the voice detector gives one probability: 32 ms

Samples = npt.NDArray[np.float32]
Detector = Callable[[Samples], npt.NDArray[np.float32]]
"""Gives the probability of speech in each frame of the samples, which are a multiple of FRAME long."""

_WINDOW = 124 * FRAME  # 4 s
_WARM_UP = 31 * FRAME  # 1 s: audio before the window, so that the detector knows the background
# Limits for the loudest frame of a window (RMS, full scale is 1). Speech in a silent window is inaudible, so the window
# is not judged. A quiet window has line noise at most, and the detector judges it once.
_SILENT = 10 ** (-60 / 20)
_QUIET = 10 ** (-45 / 20)

_SPEECH = 0.25  # speech begins at this probability: it is seldom higher in noisy telephone bandwidth
_NO_SPEECH = 0.15  # speech ends below this probability
_SHORTEST_PAUSE = 5  # frames; a shorter pause does not end a region
_SHORTEST_SPEECH = 3  # frames; a shorter sound is a click
# Least sum of the probabilities in a stretch of speech. Music after speech reaches 0.5 for a few frames: a sum of 1
# to 2. The shortest word ("Bye.") in noise has a sum of 2.8.
_LEAST_EVIDENCE = 2.5

PAUSE = 2 * RATE_HZ  # a longer pause is never inside a chunk
LONGEST = 25 * RATE_HZ  # a chunk is not longer
_MARGIN = 2 * RATE_HZ // 5  # audio before and after the speech of a chunk
_EDGE_S = 0.02  # audio read before and after a part that is resampled, so that the part has no edge effects


class Channel:
    """One channel of a recording, read at 16 kHz.

    Only the part that is read is resampled, so a long call needs no resampled copy in memory.
    """

    def __init__(self, samples: npt.NDArray[np.int16], rate_hz: int) -> None:
        self._samples = samples
        self._rate_hz = rate_hz
        self.length = len(samples) * RATE_HZ // rate_hz

    def read(self, start: int, end: int) -> Samples:
        """Returns the samples from `start` to `end`; samples outside the recording are 0."""
        inside = slice(max(0, start), min(self.length, end))
        if inside.stop <= inside.start:
            return np.zeros(max(0, end - start), np.float32)
        edge = round(_EDGE_S * self._rate_hz)
        first = max(0, inside.start * self._rate_hz // RATE_HZ - edge)
        last = -(-inside.stop * self._rate_hz // RATE_HZ) + edge
        part: Samples = self._samples[first:last].astype(np.float32) / np.float32(32768)
        if self._rate_hz != RATE_HZ:
            part = soxr.resample(part, self._rate_hz, RATE_HZ)
        skipped = inside.start - round(first * RATE_HZ / self._rate_hz)
        read = part[skipped : skipped + inside.stop - inside.start]
        before = inside.start - start
        return np.pad(read, (before, end - start - before - len(read)))

    def is_below(self, level: float, start: int, end: int) -> bool:
        """True if no frame from `start` to `end` is as loud as this level."""
        first, last = (place * self._rate_hz // RATE_HZ for place in (start, end))
        part = self._samples[first:last].astype(np.float32) / 32768
        if not len(part) or np.abs(part).max() < level:
            return True
        frame = FRAME * self._rate_hz // RATE_HZ
        whole = np.pad(part, (0, -len(part) % frame)).reshape(-1, frame)
        return bool(np.sqrt((whole**2).mean(axis=1)).max() < level)


@dataclass(frozen=True, slots=True)
class Region:
    """Speech without a pause, in samples."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of samples."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio for the decoder: from start to end, in samples, with at least one region of speech in it."""

    start: int
    end: int
    regions: tuple[Region, ...]

    @property
    def length(self) -> int:
        """Number of samples."""
        return self.end - self.start

    @property
    def speech(self) -> int:
        """Number of samples that are speech."""
        return sum(region.length for region in self.regions)


def probabilities(channel: Channel, detect: Detector, proceed: Callable[[], None]) -> npt.NDArray[np.float32]:
    """Returns the probability of speech in each frame of a channel.

    proceed: is called before each window; it raises an exception when the result is no longer needed.
    """
    frames = -(-channel.length // FRAME)
    found = np.zeros(frames, np.float32)
    for offset in (0, _WINDOW // 2):
        for start in range(offset - _WINDOW if offset else 0, channel.length, _WINDOW):
            end = min(start + _WINDOW, frames * FRAME)
            if channel.is_below(_QUIET if offset else _SILENT, max(0, start), end):
                continue
            proceed()
            before = max(0, start - _WARM_UP)
            judged = detect(channel.read(before, end)).ravel()
            window = slice(max(0, start) // FRAME, end // FRAME)
            found[window] = np.maximum(found[window], judged[len(judged) - (window.stop - window.start) :])
    return found


def regions_of(found: npt.NDArray[np.float32]) -> list[Region]:
    """Returns the regions of speech, each at most LONGEST, from the probability of each frame."""
    regions: list[Region] = []
    start: int | None = None
    quiet = 0
    for frame, probability in enumerate([*found.tolist(), *[0.0] * _SHORTEST_PAUSE]):
        if start is None:
            if probability >= _SPEECH:
                start, quiet = frame, 0
            continue
        quiet = quiet + 1 if probability < _NO_SPEECH else 0
        if quiet == _SHORTEST_PAUSE:
            end = frame + 1 - quiet
            if end - start >= _SHORTEST_SPEECH:
                regions += _not_longer(start, end, found)
            start = None
    return regions


def credible(regions: Iterable[Region], found: npt.NDArray[np.float32]) -> list[Region]:
    """The regions without those of stretches that are too short and too improbable to be speech.

    found: the probability of each frame. A stretch is judged as a whole: a weak region beside clear speech is kept.
    """
    return [
        region
        for stretch in stretches_of(regions)
        if sum(float(found[one.start // FRAME : one.end // FRAME].sum()) for one in stretch) >= _LEAST_EVIDENCE
        for region in stretch
    ]


def stretches_of(regions: Iterable[Region]) -> list[list[Region]]:
    """The regions in groups: a pause longer than PAUSE begins a new group."""
    stretches: list[list[Region]] = []
    for region in regions:
        if stretches and region.start - stretches[-1][-1].end <= PAUSE:
            stretches[-1].append(region)
        else:
            stretches.append([region])
    return stretches


def together(regions: Iterable[Region]) -> list[Region]:
    """Each stretch as one region."""
    return [Region(stretch[0].start, stretch[-1].end) for stretch in stretches_of(regions)]


def chunks_of(regions: Iterable[Region], length: int) -> list[Chunk]:
    """Returns the chunks that hold the regions of a channel of this length.

    Neighbours share a chunk unless the pause between them is longer than PAUSE or the chunk would exceed LONGEST.
    """
    groups = [group for stretch in stretches_of(regions) for group in _cut(stretch)]
    return [
        _chunk(
            group,
            groups[place - 1][-1].end if place else 0,
            groups[place + 1][0].start if place + 1 < len(groups) else length,
            length,
        )
        for place, group in enumerate(groups)
    ]


def halves(chunk: Chunk) -> list[Chunk]:
    """Cuts the chunk in two in its longest pause; returns an empty list if it has only one region."""
    if len(chunk.regions) < 2:
        return []
    place = max(range(1, len(chunk.regions)), key=lambda at: chunk.regions[at].start - chunk.regions[at - 1].end)
    one, two = chunk.regions[:place], chunk.regions[place:]
    middle = (one[-1].end + two[0].start) // 2
    return [
        Chunk(chunk.start, min(middle, one[-1].end + _MARGIN), one),
        Chunk(max(middle, two[0].start - _MARGIN), chunk.end, two),
    ]


def _not_longer(start: int, end: int, found: npt.NDArray[np.float32]) -> list[Region]:
    """Returns the region from frame to frame, cut where speech is least probable if it is too long."""
    longest = LONGEST // FRAME
    cuts = [start]
    while end - cuts[-1] > longest:
        half = cuts[-1] + longest // 2
        cuts.append(half + int(np.argmin(found[half : cuts[-1] + longest])))
    return [Region(one * FRAME, two * FRAME) for one, two in zip(cuts, [*cuts[1:], end], strict=True)]


def _cut(run: Sequence[Region]) -> list[list[Region]]:
    """Groups the regions so that no group is longer than LONGEST; cuts in long pauses."""
    rest = list(run)
    groups: list[list[Region]] = []
    while rest[-1].end - rest[0].start > LONGEST:
        fits = sum(region.end - rest[0].start <= LONGEST for region in rest)
        later = [at for at in range(1, fits + 1) if rest[at].start - rest[0].start >= LONGEST // 2] or [fits]
        place = max(later, key=lambda at: rest[at].start - rest[at - 1].end)
        groups.append(rest[:place])
        rest = rest[place:]
    return [*groups, rest]


def _chunk(regions: Sequence[Region], before: int, after: int, length: int) -> Chunk:
    """Returns the chunk of these regions, with a margin that does not reach the neighbours.

    before: end of the speech before; after: start of the speech after.
    """
    start = max(regions[0].start - _MARGIN, (before + regions[0].start) // 2 if before else 0)
    end = min(regions[-1].end + _MARGIN, (after + regions[-1].end) // 2 if after < length else length, length)
    return Chunk(start, max(end, start + 1), tuple(regions))
