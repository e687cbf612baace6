"""Trims a recording for a speech-to-text service: the channels one after the other, without their long silences.

These services process one channel, charge per second of audio, and invent words in silence. `TrimmedAudio` is the audio
they get; `TrimmedAudio.to_source_time` maps a time in it to the channel and the time in the call. The same recording
always gives the same trimmed audio, so it is not stored. Pure, except for reading and encoding files.
"""

import io
import wave
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from pipelines.runtime.errors import PermanentError

Samples = npt.NDArray[np.int16]

# Increase it when a recording gives different trimmed audio than before: it is part of the job key.
REVISION = 1

_BLOCKS_PER_S = 50
# Silence is below the channel's own noise + 10 dB. The threshold is at least -60 dBFS (an idle line hums louder) and at
# most -40 dBFS, the level of a person who speaks far from the telephone: in a channel without a pause the noise cannot
# be measured.
_ABOVE_NOISE = 3
_MIN_THRESHOLD, _MAX_THRESHOLD = 32, 328
_NOISE_PERCENT = 10
_MAX_KEPT_SILENCE_S = 3.0  # shorter silences stay: they show an engine where sentences end
_MARGIN_S = 0.3  # kept before and after each audible part: words begin and end softly
_PAUSE_S = 1.0  # between regions, so that an engine does not join words of two regions
_MIN_S = 1.0  # a silent recording is sent as this much silence, which is cheaper than a special case
_SEARCH_S = 30.0  # a region that is too long is cut at the quietest block within this time before its limit


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples of a recording [frames, channels] and their rate."""

    samples: Samples
    rate_hz: int


@dataclass(frozen=True, slots=True)
class Region:
    """Part of one channel. start, length: in samples."""

    channel: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """Index of the sample after the last one."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class TrimmedAudio:
    """Regions of a recording, one after the other with a pause between them."""

    rate_hz: int
    regions: tuple[Region, ...]

    @property
    def length(self) -> int:
        """Number of samples, including pauses."""
        pauses = max(0, len(self.regions) - 1) * _pause_samples(self.rate_hz)
        return max(sum(region.length for region in self.regions) + pauses, round(_MIN_S * self.rate_hz))

    @property
    def duration_ms(self) -> int:
        """Duration in ms, including pauses."""
        return self.length * 1000 // self.rate_hz

    def samples(self, recording: Recording) -> Samples:
        """Returns the trimmed audio of the recording."""
        audio = np.zeros(self.length, np.int16)
        for region, at in zip(self.regions, self._region_starts(), strict=True):
            audio[at : at + region.length] = recording.samples[region.start : region.end, region.channel]
        return audio

    def to_source_time(self, start_ms: int, end_ms: int) -> tuple[int, int, int]:
        """Maps a time span in the trimmed audio to the channel, start and end (ms) in the call.

        A span inside a pause belongs to the nearer region. A span that reaches into a pause is cut there.
        """
        if not self.regions:
            return 0, 0, 0
        starts = self._region_starts()
        middle = (start_ms + end_ms) * self.rate_hz // 2000
        number = max(0, bisect_right(starts, middle + _pause_samples(self.rate_hz) // 2) - 1)
        region = self.regions[number]

        def at_ms(time_ms: int) -> int:
            sample = region.start + time_ms * self.rate_hz // 1000 - starts[number]
            return min(max(sample, region.start), region.end) * 1000 // self.rate_hz

        return region.channel, at_ms(start_ms), at_ms(end_ms)

    def _region_starts(self) -> list[int]:
        """Returns the start of each region in the trimmed audio, in samples."""
        pause = _pause_samples(self.rate_hz)
        return [0, *accumulate(region.length + pause for region in self.regions)][: len(self.regions)]


def read_wav(path: Path, channels: int) -> Recording:
    """Reads a 16-bit WAV file.

    Raises:
        PermanentError: The file is not such a WAV file, or has another number of channels.
    """
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
    complete = len(data) - len(data) % (2 * channels)  # without a frame that is cut off
    return Recording(np.frombuffer(data[:complete], "<i2").reshape(-1, channels), rate_hz)


def trimmed(recording: Recording) -> TrimmedAudio:
    """Returns the audible regions of all channels, one channel after the other."""
    channels = range(recording.samples.shape[1])
    return TrimmedAudio(
        recording.rate_hz, tuple(region for channel in channels for region in _audible_regions(recording, channel))
    )


def trimmed_by_channel(recording: Recording, max_s: float) -> list[TrimmedAudio]:
    """Returns the audible regions as several pieces of audio, each from one channel and at most `max_s` seconds."""
    max_samples = round(max_s * recording.rate_hz)
    pause = _pause_samples(recording.rate_hz)
    audios = []
    for channel in range(recording.samples.shape[1]):
        regions = [
            part
            for region in _audible_regions(recording, channel)
            for part in _split_region(recording, region, max_samples)
        ]
        audios += [TrimmedAudio(recording.rate_hz, tuple(pack)) for pack in _pack(regions, max_samples, pause)]
    return audios


def encode_flac(audio: Samples, rate_hz: int) -> bytes:
    """Encodes mono audio as FLAC: lossless, in about half the bytes."""
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


def _pause_samples(rate_hz: int) -> int:
    return round(_PAUSE_S * rate_hz)


def _block_peaks(audio: Samples, block: int) -> npt.NDArray[np.int32]:
    """Returns the highest absolute sample of each block."""
    padded = np.zeros(-(-len(audio) // block) * block, np.int32)
    padded[: len(audio)] = np.abs(audio.astype(np.int32))
    peaks: npt.NDArray[np.int32] = padded.reshape(-1, block).max(axis=1)
    return peaks


def _audible_regions(recording: Recording, channel: int) -> list[Region]:
    """Returns the parts of the channel between its long silences."""
    audio = recording.samples[:, channel]
    if not len(audio):
        return []
    block = max(1, recording.rate_hz // _BLOCKS_PER_S)
    peaks = _block_peaks(audio, block)
    threshold = min(max(_MIN_THRESHOLD, _ABOVE_NOISE * float(np.percentile(peaks, _NOISE_PERCENT))), _MAX_THRESHOLD)
    loud = np.flatnonzero(peaks > threshold)
    if not len(loud):
        return []
    cuts = np.flatnonzero(np.diff(loud) > _MAX_KEPT_SILENCE_S * _BLOCKS_PER_S) + 1
    margin = round(_MARGIN_S * recording.rate_hz)
    regions = []
    for blocks in np.split(loud, cuts):
        start = max(0, int(blocks[0]) * block - margin)
        end = min(len(audio), (int(blocks[-1]) + 1) * block + margin)
        regions.append(Region(channel, start, end - start))
    return regions


def _split_region(recording: Recording, region: Region, max_samples: int) -> Iterator[Region]:
    """Splits a region into parts of at most `max_samples` samples, at its quietest blocks."""
    block = max(1, recording.rate_hz // _BLOCKS_PER_S)
    start = region.start
    while region.end - start > max_samples:
        searched = min(round(_SEARCH_S * recording.rate_hz), max_samples // 2)
        window = recording.samples[start + max_samples - searched : start + max_samples, region.channel]
        peaks = _block_peaks(window, block)[: max(1, searched // block)]
        quiet = int(np.flatnonzero(peaks <= 2 * peaks.min() + 1)[-1])  # the last quiet block, for fewer parts
        cut = start + max_samples - searched + quiet * block + block // 2
        yield Region(region.channel, start, cut - start)
        start = cut
    yield Region(region.channel, start, region.end - start)


def _pack(regions: Iterable[Region], max_samples: int, pause: int) -> list[list[Region]]:
    """Groups neighbouring regions: as many as fit in `max_samples`, including the pauses between them."""
    packs: list[list[Region]] = []
    length = 0
    for region in regions:
        if packs and length + pause + region.length <= max_samples:
            packs[-1].append(region)
            length += pause + region.length
        else:
            packs.append([region])
            length = region.length
    return packs
