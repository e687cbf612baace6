"""What is sent of a recording: each channel by itself, one after the other, without its long silences. Pure but for the
reading and encoding.

Services for speech to text hear one channel, bill by the second of audio, and invent words in silence. A reel is what
they get; `Reel.back` says where in the call, and on which channel, something heard on it was said. The same recording
always makes the same reel, so it need not be kept.
"""

import io
import wave
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from pipelines.runtime.errors import PermanentError

Samples = npt.NDArray[np.int16]

# Raised when a recording makes another reel than before: it is part of what is hashed into a job's key.
REVISION = 1

_BLOCKS_PER_S = 50
# What is quiet: 10 dB above a channel's own noise, but always -60 dBFS (an idle line hums louder), and never -40 dBFS,
# where somebody far from a telephone may speak: a channel without a pause has no noise to compare with.
_ABOVE_NOISE = 3
_QUIET, _LOUD = 32, 328
_NOISE_PERCENT = 10
_KEPT_S = 3.0  # shorter silences stay: they tell an engine where sentences end
_MARGIN_S = 0.3  # kept on both sides of what sounds: words begin and end softly
_PAUSE_S = 1.0  # between stretches, so that no word grows out of two
_LEAST_S = 1.0  # a recording without a sound is sent as so much silence: cheaper than being a special case
_SEARCH_S = 30.0  # how far before its end a stretch that is too long may be cut, at the quietest block


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples [frames, channels] and their rate."""

    samples: Samples
    rate_hz: int


@dataclass(frozen=True, slots=True)
class Region:
    """A part of one channel. start, length: in samples."""

    channel: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """The sample after the last."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class TrimmedAudio:
    """Stretches, played one after the other with a pause between."""

    rate_hz: int
    stretches: tuple[Region, ...]

    @property
    def length(self) -> int:
        """Samples, pauses included."""
        pauses = max(0, len(self.stretches) - 1) * _pause(self.rate_hz)
        return max(sum(stretch.length for stretch in self.stretches) + pauses, round(_LEAST_S * self.rate_hz))

    @property
    def duration_ms(self) -> int:
        """Its length, in ms."""
        return self.length * 1000 // self.rate_hz

    def samples(self, recording: Recording) -> Samples:
        """The audio of it."""
        audio = np.zeros(self.length, np.int16)
        for stretch, at in zip(self.stretches, self._starts(), strict=True):
            audio[at : at + stretch.length] = recording.samples[stretch.start : stretch.end, stretch.channel]
        return audio

    def to_source_time(self, start_ms: int, end_ms: int) -> tuple[int, int, int]:
        """Channel, start and end (ms) in the call of what was heard at these times of the reel. What is in a pause
        belongs to the nearer stretch, and what reaches into one is cut off there."""
        if not self.stretches:
            return 0, 0, 0
        starts = self._starts()
        middle = (start_ms + end_ms) * self.rate_hz // 2000
        number = max(0, bisect_right(starts, middle + _pause(self.rate_hz) // 2) - 1)
        stretch = self.stretches[number]

        def at_ms(time_ms: int) -> int:
            sample = stretch.start + time_ms * self.rate_hz // 1000 - starts[number]
            return min(max(sample, stretch.start), stretch.end) * 1000 // self.rate_hz

        return stretch.channel, at_ms(start_ms), at_ms(end_ms)

    def _starts(self) -> list[int]:
        """Where each stretch begins in the reel, in samples."""
        pause = _pause(self.rate_hz)
        return [0, *accumulate(stretch.length + pause for stretch in self.stretches)][: len(self.stretches)]


def read(path: Path, channels: int) -> Recording:
    """The WAV. Raises PermanentError if it is none or has another number of channels."""
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                raise PermanentError(f"the recording has {8 * file.getsampwidth()}-bit samples where 16 are expected")
            found, rate_hz = file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise PermanentError(f"the recording cannot be read: {error or 'it is cut off'}") from error
    if found != channels:
        raise PermanentError(f"the recording has {found} channels where {channels} are expected")
    whole = len(data) - len(data) % (2 * channels)
    return Recording(np.frombuffer(data[:whole], "<i2").reshape(-1, channels), rate_hz)


def whole(recording: Recording) -> TrimmedAudio:
    """All that sounds, channel by channel."""
    channels = range(recording.samples.shape[1])
    return TrimmedAudio(
        recording.rate_hz, tuple(stretch for channel in channels for stretch in _sounding(recording, channel))
    )


def by_channel(recording: Recording, most_s: float) -> list[TrimmedAudio]:
    """All that sounds, in reels of one channel each and at most `most_s` seconds."""
    most = round(most_s * recording.rate_hz)
    reels = []
    for channel in range(recording.samples.shape[1]):
        pieces = [piece for stretch in _sounding(recording, channel) for piece in _cut(recording, stretch, most)]
        reels += [
            TrimmedAudio(recording.rate_hz, tuple(pack)) for pack in _packed(pieces, most, _pause(recording.rate_hz))
        ]
    return reels


def flac(audio: Samples, rate_hz: int) -> bytes:
    """The mono audio as FLAC: the same samples in about half the bytes."""
    target = io.BytesIO()
    with av.open(target, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate_hz)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "s16"
        stream.codec_context.open()
        step = stream.codec_context.frame_size or 4096
        for at in range(0, len(audio), step):
            frame = av.AudioFrame.from_ndarray(audio[np.newaxis, at : at + step], format="s16", layout="mono")
            frame.sample_rate = rate_hz
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def _pause(rate_hz: int) -> int:
    return round(_PAUSE_S * rate_hz)


def _loudness(audio: Samples, block: int) -> npt.NDArray[np.int32]:
    """The highest absolute sample of each block."""
    padded = np.zeros(-(-len(audio) // block) * block, np.int32)
    padded[: len(audio)] = np.abs(audio.astype(np.int32))
    peaks: npt.NDArray[np.int32] = padded.reshape(-1, block).max(axis=1)
    return peaks


def _sounding(recording: Recording, channel: int) -> list[Region]:
    """The channel without its long silences."""
    audio = recording.samples[:, channel]
    if not len(audio):
        return []
    block = max(1, recording.rate_hz // _BLOCKS_PER_S)
    peaks = _loudness(audio, block)
    quiet = min(max(_QUIET, _ABOVE_NOISE * float(np.percentile(peaks, _NOISE_PERCENT))), _LOUD)
    loud = np.flatnonzero(peaks > quiet)
    if not len(loud):
        return []
    cuts = np.flatnonzero(np.diff(loud) > _KEPT_S * _BLOCKS_PER_S) + 1
    margin = round(_MARGIN_S * recording.rate_hz)
    stretches = []
    for blocks in np.split(loud, cuts):
        start = max(0, int(blocks[0]) * block - margin)
        end = min(len(audio), (int(blocks[-1]) + 1) * block + margin)
        stretches.append(Region(channel, start, end - start))
    return stretches


def _cut(recording: Recording, stretch: Region, most: int) -> Iterator[Region]:
    """The stretch in pieces of at most `most` samples, cut where it is quietest."""
    block = max(1, recording.rate_hz // _BLOCKS_PER_S)
    start = stretch.start
    while stretch.end - start > most:
        searched = min(round(_SEARCH_S * recording.rate_hz), most // 2)
        window = recording.samples[start + most - searched : start + most, stretch.channel]
        peaks = _loudness(window, block)[: max(1, searched // block)]
        quiet = int(np.flatnonzero(peaks <= 2 * peaks.min() + 1)[-1])  # the last such: fewer pieces
        cut = start + most - searched + quiet * block + block // 2
        yield Region(stretch.channel, start, cut - start)
        start = cut
    yield Region(stretch.channel, start, stretch.end - start)


def _packed(pieces: Iterable[Region], most: int, pause: int) -> list[Sequence[Region]]:
    """As many pieces a reel as fit."""
    packs: list[list[Region]] = []
    length = 0
    for piece in pieces:
        if packs and length + pause + piece.length <= most:
            packs[-1].append(piece)
            length += pause + piece.length
        else:
            packs.append([piece])
            length = piece.length
    return list(packs)
