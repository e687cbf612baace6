"""Frames of one track become runs: what `call.media` carries in one record.

A record per 20 ms frame would cost 25 times the log traffic, so frames are collected for a window of half a second
(`merge_ms`) and leave it sorted, without repetitions, as runs without a hole. What arrives too late for its window
simply makes a run of its own: the recorder places every run by its timestamp.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.carriers.base import Frame
from schemas.codecs import SamplesOf

TOLERANCE_MS = 10
"""How far a frame's timestamp may be off its place in a run: half a frame. Carriers' clocks jitter by 1 to 2 ms."""

PATIENCE_MS = 100
"""How much longer than `merge_ms` a window waits for frames that are on their way before it is emitted short."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Contiguous audio of one track. ts_ms, seq: of the first frame; frames: how many were joined."""

    track: str
    seq: int
    ts_ms: int
    frames: int
    payload: bytes


class TrackMerger:
    """Collects one track's frames. samples_of, rate_hz: of the codec, from which a payload's duration follows."""

    __slots__ = ("_frames", "_opened_at", "_patience_s", "_rate_hz", "_samples", "_samples_of", "_window_samples")

    def __init__(self, *, merge_ms: int, samples_of: SamplesOf, rate_hz: int) -> None:
        self._samples_of = samples_of
        self._rate_hz = rate_hz
        self._window_samples = merge_ms * rate_hz // 1000
        self._patience_s = (merge_ms + PATIENCE_MS) / 1000
        self._frames: list[Frame] = []
        self._samples = 0
        self._opened_at = 0.0

    def add(self, frame: Frame, now_s: float) -> Sequence[AudioChunk]:
        """Takes a frame in; returns the window's runs when that fills it. now_s: any monotonic clock."""
        if not self._frames:
            self._opened_at = now_s
        self._frames.append(frame)
        self._samples += self._samples_of(frame.payload)
        return self.flush() if self._samples >= self._window_samples else ()

    def flush_if_old(self, now_s: float) -> Sequence[AudioChunk]:
        """The window's runs if its oldest frame has waited long enough, so that a trickle is not held for ever."""
        if self._frames and now_s - self._opened_at >= self._patience_s:
            return self.flush()
        return ()

    def flush(self) -> Sequence[AudioChunk]:
        """The window's runs, whatever it holds."""
        frames, self._frames, self._samples = self._frames, [], 0
        return chunks_of(frames, self._samples_of, self._rate_hz)


def chunks_of(frames: Sequence[Frame], samples_of: SamplesOf, rate_hz: int) -> list[AudioChunk]:
    """The frames of one track, in any order and with repetitions, as runs ordered by timestamp.

    A run's audio begins at its first frame's timestamp. Each further frame lies within TOLERANCE_MS of where the
    samples before it end, so deviations do not add up. Frames of one time and different audio all survive.
    """
    runs: list[AudioChunk] = []
    run: list[Frame] = []
    run_samples = 0
    for frame in _distinct(sorted(frames, key=_place)):
        # In samples times 1000, so that no rounding enters.
        if run and abs((frame.ts_ms - run[0].ts_ms) * rate_hz - run_samples * 1000) > TOLERANCE_MS * rate_hz:
            runs.append(_joined(run))
            run, run_samples = [], 0
        run.append(frame)
        run_samples += samples_of(frame.payload)
    if run:
        runs.append(_joined(run))
    return runs


def _place(frame: Frame) -> tuple[int, int]:
    return frame.ts_ms, frame.seq


def _distinct(ordered: Sequence[Frame]) -> Sequence[Frame]:
    """Without frames that repeat another's timestamp and audio. ordered: by timestamp."""
    kept: list[Frame] = []
    ts_ms = -1
    payloads: set[bytes] = set()  # of the frames at ts_ms
    for frame in ordered:
        if frame.ts_ms != ts_ms:
            ts_ms, payloads = frame.ts_ms, {frame.payload}
        elif frame.payload in payloads:
            continue
        else:
            payloads.add(frame.payload)
        kept.append(frame)
    return kept


def _joined(run: Sequence[Frame]) -> AudioChunk:
    first = run[0]
    return AudioChunk(first.track, first.seq, first.ts_ms, len(run), b"".join([frame.payload for frame in run]))
