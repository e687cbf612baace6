"""Decodes the segments of one track, in order, to samples at the rate of the recording.

Adjacent segments are decoded as continuous audio: a stateful codec keeps its state, and the resampler sees the audio on
both sides of a seam, so that the seam is inaudible. The result is a function of the segments: the same journal gives
the same samples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from pipelines.recorder.codecs import Decoder, Samples, new_decoder
from pipelines.recorder.timeline import Segment
from schemas.media import Codec

CONTEXT_MS = 40  # audio on both sides of a resampled segment: several times the filter's length


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Audio of a media record."""

    stream_id: str
    codec: Codec
    rate_hz: int
    payload: bytes


Load = Callable[[int], EncodedAudio]
"""Returns the audio of the part's record with this number."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Samples of a segment, at the decoder's rate. joins: True if they continue the previous block."""

    segment: Segment
    rate_hz: int
    samples: Samples
    joins: bool


def samples_of(segments: Sequence[Segment], load: Load, rate_hz: int) -> Iterator[Samples]:
    """Yields the samples of each segment: `segment.length` of them."""
    before = np.zeros(0, np.int16)  # the end of the previous block, if this one continues it
    blocks = _decoded(segments, load, rate_hz)
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        seam = following is not None and following.joins
        if block.rate_hz == rate_hz:
            yield block.samples
        else:
            context = block.rate_hz * CONTEXT_MS // 1000
            after = following.samples[:context] if following is not None and seam else np.zeros(0, np.int16)
            yield _resampled(before, block, after, rate_hz)
            before = np.concatenate([before, block.samples])[-context:] if seam else np.zeros(0, np.int16)
        block = following


def _decoded(segments: Sequence[Segment], load: Load, rate_hz: int) -> Iterator[_Block]:
    end = -1  # the end of the previous segment; -1 if it did not use its record's audio up to the end
    last: tuple[str, Codec, int] | None = None
    codec: Decoder | None = None
    for segment in segments:
        encoded = load(segment.record)
        kind = (encoded.stream_id, encoded.codec, encoded.rate_hz)
        joins = segment.start == end and segment.skip == 0 and kind == last and codec is not None
        if codec is None or not joins:
            codec = new_decoder(encoded.codec, encoded.rate_hz)
        samples = codec.decode(encoded.payload)
        begin, until = (_scaled(at, rate_hz, codec.rate_hz) for at in (segment.skip, segment.skip + segment.length))
        # A record at another rate may be a fraction of a sample longer.
        end = segment.start + segment.length if until >= len(samples) - 1 else -1
        last = kind
        yield _Block(segment, codec.rate_hz, samples[begin:until], joins)


def _scaled(samples: int, from_hz: int, to_hz: int) -> int:
    return samples * to_hz // from_hz


def _resampled(before: Samples, block: _Block, after: Samples, rate_hz: int) -> Samples:
    joined = np.concatenate([before, block.samples, after]).astype(np.float32)
    resampled = soxr.resample(joined, block.rate_hz, rate_hz, quality="HQ")
    start = _scaled(len(before), block.rate_hz, rate_hz)
    samples = np.clip(np.rint(resampled[start : start + block.segment.length]), -32768, 32767).astype(np.int16)
    return np.pad(samples, (0, block.segment.length - len(samples)))
