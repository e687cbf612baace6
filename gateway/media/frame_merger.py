"""Frames of one track become runs: what `call.media` carries in one record.

A record per 20 ms frame would cost 25 times the log traffic, so frames are collected for a window of half a second
(`merge_ms`) and leave it sorted, without repetitions, as runs without a hole. `gateway.media.placing` places them.
"""

from collections.abc import Sequence

from gateway.carriers.base import Frame
from gateway.media.arrival_placing import ArrivalPlacer
from gateway.media.placing import Piece, Placer
from gateway.media.timestamp_placing import TimestampPlacer
from schemas.codecs import SamplesOf

PATIENCE_MS = 100
"""How much longer than `merge_ms` a window waits for frames that are on their way before it is emitted short."""


class TrackMerger:
    """Collects one track's frames. samples_of, rate_hz: of the codec, from which a payload's duration follows.

    by_arrival: the frames' `ts_ms` is when they arrived, and not a timestamp of the carrier's.
    """

    def __init__(self, *, merge_ms: int, samples_of: SamplesOf, rate_hz: int, by_arrival: bool = False) -> None:
        self._samples_of = samples_of
        self._placer: Placer = (ArrivalPlacer if by_arrival else TimestampPlacer)(samples_of, rate_hz)
        self._window_samples = merge_ms * rate_hz // 1000
        self._patience_s = (merge_ms + PATIENCE_MS) / 1000
        self._frames: list[Frame] = []
        self._samples = 0
        self._opened_at = self._now_s = 0.0

    @property
    def reached_ms(self) -> int:
        """Where the audio that has left the window ends, on the stream's clock."""
        return self._placer.reached_ms

    @property
    def pending_samples(self) -> int:
        """Audio in the window."""
        return self._samples

    def add(self, frame: Frame, now_s: float) -> Sequence[Piece]:
        """Takes a frame in; returns the window's pieces when that fills it. now_s: any monotonic clock."""
        if not self._frames:
            self._opened_at = now_s
        self._now_s = now_s
        self._frames.append(frame)
        self._samples += self._samples_of(frame.payload)
        return self._place(final=False) if self._samples >= self._window_samples else ()

    def flush_if_old(self, now_s: float) -> Sequence[Piece]:
        """The window's pieces if its oldest frame has waited long enough, so that a trickle is not held for ever."""
        if self._frames and now_s - self._opened_at >= self._patience_s:
            return self.flush()
        return ()

    def flush(self) -> Sequence[Piece]:
        """The window's pieces, whatever it holds."""
        return self._place(final=True)

    def _place(self, *, final: bool) -> Sequence[Piece]:
        pieces, self._frames = self._placer.place(self._frames, self._now_s, final=final)
        self._samples = sum(map(self._samples_of, [frame.payload for frame in self._frames])) if self._frames else 0
        self._opened_at = self._now_s
        return pieces
