"""Placement of audio that has no timestamps: the time of arrival decides. No I/O."""

from collections import deque
from collections.abc import Sequence
from statistics import median

from gateway.carriers.base import Frame
from gateway.media.placing import Hole, Joiner, Late, Piece, Placer
from schemas.codecs import SamplesOf
from schemas.media import GapReason

ARRIVAL_TOLERANCE_MS = 200
"""Delay up to which audio without timestamps continues the audio before it. Networks jitter by about 100 ms."""

STEADY_TOLERANCE_MS = 20
"""The same delay if the audio arrives at a steady pace: a frame."""

_KNOWN_WINDOWS = 4  # 2 s: so many windows show how evenly the audio arrives
_REMEMBERED_WINDOWS = 20  # 10 s

ARRIVAL_LIMIT_MS = 500
"""Delay that may add up over a long time. Beyond it, many small pauses become one pause of their total length."""


class ArrivalPlacer(Placer):
    """Places frames by their arrival: `ts_ms` is the time of arrival, at which the audio of the frame ends.

    The frames arrive in order, and none of them is lost. Audio that arrives early, or late by less than the tolerance,
    continues the audio before it without a missing sample. Audio that suddenly arrives later, and stays late, follows a
    pause, and its place is its time of arrival.

    The tolerance is twice the usual jitter of the line, from STEADY_TOLERANCE_MS to ARRIVAL_TOLERANCE_MS. If a line
    only becomes slower, it is taken for a pause. This cannot add up: audio is never placed later than its arrival.
    """

    evidence_ms = 300  # arrivals jitter

    def __init__(self, samples_of: SamplesOf, rate_hz: int) -> None:
        super().__init__(samples_of, rate_hz, ARRIVAL_TOLERANCE_MS)
        self._started = False
        self._jitter_ms: deque[int] = deque(maxlen=_REMEMBERED_WINDOWS)  # of each window

    def place(self, frames: Sequence[Frame], now_s: float, *, final: bool) -> tuple[list[Piece], list[Frame]]:
        """Returns the window's pieces, and the frames that wait for the next window. See Placer."""
        if not frames:
            return [], []
        if not self._started:
            self._started = True
            # The frame with the smallest delay shows when the audio began. If that is long before the stream began, the
            # carrier kept audio and now sends it all at once; the audio then begins with the stream.
            low_ms = min(self._lags(frames, [self._samples_of(frame.payload) for frame in frames]))
            begin_ms = low_ms if low_ms > -ARRIVAL_TOLERANCE_MS else 0
            self._end = begin_ms * self._rate_hz // 1000
            self._drift.reset(low_ms - begin_ms)
        if self._step_ms == 0:
            lengths = [self._samples_of(frame.payload) for frame in frames]
            lags = self._lags(frames, lengths)
            low_ms = min(lags)
            if max(lags) - min(low_ms, self._lag_ms) <= self._tolerance_ms and not self._is_late(low_ms):
                samples = sum(lengths)
                self._lag_ms = lags[-1]
                self._follow(lags, samples * 1000 // self._rate_hz)
                return [self._one_run(frames, samples)], []
        return self._in_order(Joiner(self._rate_hz), frames, now_s, final=final)

    def _lags(self, frames: Sequence[Frame], lengths: Sequence[int]) -> list[int]:
        rate_hz, position = self._rate_hz, self._end
        lags: list[int] = []
        for frame, samples in zip(frames, lengths, strict=True):
            position += samples
            lags.append(frame.ts_ms - position * 1000 // rate_hz)
        return lags

    @property
    def _tolerance_ms(self) -> int:
        if len(self._jitter_ms) < _KNOWN_WINDOWS:
            return ARRIVAL_TOLERANCE_MS
        return min(max(STEADY_TOLERANCE_MS, int(2 * median(self._jitter_ms))), ARRIVAL_TOLERANCE_MS)

    def _follow(self, lags: Sequence[int], audio_ms: int) -> None:
        self._jitter_ms.append(max(lags) - min(lags))
        super()._follow(lags, audio_ms)

    def _has_jumped(self, lag_ms: int) -> bool:
        return lag_ms - self._lag_ms > self._tolerance_ms

    def _is_late(self, low_ms: int, *, sudden: bool = False) -> bool:
        drift = self._drift
        grown = low_ms - drift.settled_ms > (self._tolerance_ms if sudden else ARRIVAL_TOLERANCE_MS)
        return low_ms > 0 and (grown or low_ms - drift.usual_ms > ARRIVAL_LIMIT_MS)

    def _move(self, joiner: Joiner, frame: Frame, late: Late, _now_s: float) -> int:
        joiner.hole(Hole(frame.track, self.reached_ms, late.low_ms, GapReason.NOT_SENT))
        self._end += late.low_ms * self._rate_hz // 1000
        self._drift.reset(0)
        return late.low_ms
