"""Merger of one track's frames into runs. A record on `call.media` carries one run.

One record for each 20 ms frame would cost 25 times the log traffic. So a window collects frames for half a second
(`merge_ms`). They leave it in order, without repetitions, as runs without a hole. `gateway.media.placing` places them.
"""

from collections.abc import Sequence

from gateway.carriers.base import Frame
from gateway.media.arrival_placing import ArrivalPlacer
from gateway.media.placing import Piece, Placer
from gateway.media.timestamp_placing import TimestampPlacer
from schemas.codecs import SamplesOf

EXTRA_WAIT_MS = 100
"""Time after `merge_ms` for which a window still waits for late frames. After it, the window is emitted short."""


class TrackMerger:
    """Collects the frames of one track in a window.

    samples_of, rate_hz: of the codec; they give a payload's duration. by_arrival: the frames' `ts_ms` is the time at
    which they arrived, not a timestamp from the carrier.
    """

    def __init__(self, *, merge_ms: int, samples_of: SamplesOf, rate_hz: int, by_arrival: bool = False) -> None:
        self._samples_of = samples_of
        self._placer: Placer = (ArrivalPlacer if by_arrival else TimestampPlacer)(samples_of, rate_hz)
        self._window_samples = merge_ms * rate_hz // 1000
        self._max_wait_s = (merge_ms + EXTRA_WAIT_MS) / 1000
        self._frames: list[Frame] = []
        self._samples = 0
        self._opened_at = self._now_s = 0.0

    @property
    def reached_ms(self) -> int:
        """Returns the end of the audio that has left the window, on the stream's clock."""
        return self._placer.reached_ms

    @property
    def pending_samples(self) -> int:
        """Returns the number of samples in the window."""
        return self._samples

    def add(self, frame: Frame, now_s: float) -> Sequence[Piece]:
        """Adds a frame. Returns the window's pieces when the frame fills it. now_s: any monotonic clock."""
        if not self._frames:
            self._opened_at = now_s
        self._now_s = now_s
        self._frames.append(frame)
        self._samples += self._samples_of(frame.payload)
        return self._place(final=False) if self._samples >= self._window_samples else ()

    def flush_if_old(self, now_s: float) -> Sequence[Piece]:
        """Returns the window's pieces if its oldest frame has waited long enough, so that sparse frames do not stay."""
        if self._frames and now_s - self._opened_at >= self._max_wait_s:
            return self.flush()
        return ()

    def flush(self) -> Sequence[Piece]:
        """Returns the window's pieces, however few frames it holds."""
        return self._place(final=True)

    def _place(self, *, final: bool) -> Sequence[Piece]:
        pieces, self._frames = self._placer.place(self._frames, self._now_s, final=final)
        self._samples = sum(map(self._samples_of, [frame.payload for frame in self._frames])) if self._frames else 0
        self._opened_at = self._now_s
        return pieces
