"""Placement of the frames of one track on their stream's clock. No I/O.

This module alone decides the positions. They are on the log as each run's `ts_ms`, and the recorder and every replay
use them.

A carrier's timestamps decide as long as they are plausible: frames that follow each other without an overlap get the
positions of their timestamps. Timestamps that contradict the audio (they start again at 0, stand still, count from
another epoch, or are late) would cause an overlap. Then the sequence numbers decide: they give the order of the audio,
and all of it is kept. Audio without timestamps gets its positions from the times of arrival.

A delay (of a timestamp or an arrival) has one of two causes, and only the frames that follow show which. If they come
faster than real time, the carrier catches up after a stall, and nothing is missing. If they come in real time, there
was a pause.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub

from gateway.carriers.base import Frame
from schemas.codecs import SamplesOf

TOLERANCE_MS = 10
"""Largest difference of a timestamp from its position in a run: half a frame. Carriers' clocks jitter by 1 to 2 ms."""

STEP_MS = 15
"""Step in which the placement follows a clock that drifts. It is less than the shortest gap that is reported."""

_DRIFT_WINDOWS = 20  # 10 s: a drift shows in all of these windows
_DRIFT_SPREAD_MS = 50
_MOST_JUMPS = 50  # of a window that are examined: a clock that jumps at each frame is useless, and costs time


@dataclass(frozen=True, slots=True)
class Run:
    """Contiguous audio of one track. ts_ms, seq: of the first frame; frames: the number of frames in it.

    overlap: the beginning is at the same time as the end of the audio before it, and neither replaces the other.
    """

    track: str
    seq: int
    ts_ms: int
    frames: int
    payload: bytes
    overlap: bool = False


@dataclass(frozen=True, slots=True)
class Hole:
    """Period of one track without audio, and the reason."""

    track: str
    ts_ms: int
    duration_ms: int
    reason: str


Piece = Run | Hole


class Joiner:
    """Joins frames into runs. Positions are samples on the stream's clock."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._pieces: list[Piece] = []
        self._frames: list[Frame] = []
        self._start = self._end = 0
        self._overlap = False

    def add(self, frame: Frame, position: int, samples: int, *, overlap: bool = False) -> None:
        """Adds a frame that begins at this position. It continues the last run if that run ends there."""
        if position != self._end or overlap:
            self._close()
        if not self._frames:
            self._start, self._overlap = position, overlap
        self._frames.append(frame)
        self._end = position + samples

    def hole(self, hole: Hole) -> None:
        """Adds a hole."""
        self._close()
        self._pieces.append(hole)

    def pieces(self) -> list[Piece]:
        """Returns the runs and holes, in order."""
        self._close()
        return self._pieces

    def _close(self) -> None:
        if self._frames:
            first = self._frames[0]
            payload = b"".join([frame.payload for frame in self._frames])
            ts_ms = self._start * 1000 // self._rate_hz
            self._pieces.append(Run(first.track, first.seq, ts_ms, len(self._frames), payload, self._overlap))
            self._frames = []


class Drift:
    """Detector of a slow or fast clock: for 10 s the clock is off, evenly, by more than `slack_ms`.

    usual_ms: the smallest delay of the audio at the last time at which its clock was known to be right.
    """

    def __init__(self, slack_ms: int) -> None:
        self.usual_ms = 0
        self._slack_ms = slack_ms
        self._lows: deque[int] = deque(maxlen=_DRIFT_WINDOWS)

    @property
    def settled_ms(self) -> int:
        """Returns the smallest current delay of the audio."""
        return min(self._lows, default=self.usual_ms)

    def reset(self, usual_ms: int) -> None:
        """Notes that the clock is right and that this is the delay of the audio."""
        self.usual_ms = usual_ms
        self._lows.clear()

    def step_ms(self, low_ms: int) -> int:
        """Adds the smallest delay of a window. Returns the shift that the audio after this window needs (ms)."""
        self._lows.append(low_ms)
        if len(self._lows) < _DRIFT_WINDOWS or max(self._lows) - min(self._lows) > _DRIFT_SPREAD_MS:
            return 0
        off_ms = min(self._lows) - self.usual_ms
        if abs(off_ms) <= self._slack_ms:
            return 0
        step_ms = STEP_MS if off_ms > 0 else -STEP_MS
        self._lows = deque([low - step_ms for low in self._lows], _DRIFT_WINDOWS)
        return step_ms


@dataclass(frozen=True, slots=True)
class Late:
    """Delay of a frame that is late.

    lag_ms: of the frame itself. low_ms: the smallest of the frame and those after it. missing_ms: the audio that is
    missing before the frame, by its number.
    """

    lag_ms: int
    low_ms: int
    missing_ms: int = 0

    @property
    def typical_ms(self) -> int:
        """Returns the frame's own delay, unless the frames after it show that its timestamp alone is late."""
        return self.lag_ms if self.lag_ms - self.low_ms <= TOLERANCE_MS else self.low_ms


class Placer(ABC):
    """Placer of the frames of one track, window by window.

    `_in_order` places frames of known order. The subclasses decide what a delay means.
    """

    evidence_ms: int
    """Audio after a jump of the clock that shows whether it was a pause or a stall. Less waits for the next window."""

    def __init__(self, samples_of: SamplesOf, rate_hz: int, drift_slack_ms: int) -> None:
        self._samples_of = samples_of
        self._rate_hz = rate_hz
        self._end = 0  # end of the audio placed so far, in samples
        self._shift_ms = 0  # from the carrier's clock to the stream's
        self._lag_ms = 0  # delay of the last frame
        self._drift = Drift(drift_slack_ms)
        self._step_ms = 0  # shift of the next window, because the clock drifts

    @property
    def reached_ms(self) -> int:
        """Returns the end of the audio placed so far (ms)."""
        return self._end * 1000 // self._rate_hz

    @abstractmethod
    def place(self, frames: Sequence[Frame], now_s: float, *, final: bool) -> tuple[list[Piece], list[Frame]]:
        """Returns the window's pieces, and the frames that wait for the next window. final: no frame may wait.

        frames: in the order of their arrival. now_s: any monotonic clock.
        """

    @abstractmethod
    def _has_jumped(self, lag_ms: int) -> bool:
        """True if the clock jumped between the last frame and one with this delay."""

    @abstractmethod
    def _is_late(self, low_ms: int, *, sudden: bool) -> bool:
        """True if audio with this smallest delay cannot continue the audio before it.

        sudden: the audio before it was not late, or frames are missing between them.
        """

    @abstractmethod
    def _move(self, joiner: Joiner, frame: Frame, late: Late, now_s: float) -> int:
        """Moves late audio to the position of its clock. Returns by how much that reduces its delay."""

    def _missing_ms(self, frames: Sequence[Frame]) -> Sequence[int]:
        """Returns the audio that is missing before each of these frames, by their numbers (ms)."""
        return [0] * len(frames)

    def _set_back(self, _lag_ms: int, _low_ms: int) -> int:
        """Follows a clock that was set back. Returns by how much that reduces the delay of the audio."""
        return 0

    def _in_order(
        self, joiner: Joiner, frames: Sequence[Frame], now_s: float, *, final: bool
    ) -> tuple[list[Piece], list[Frame]]:
        """Places frames of known order: each continues the one before it, unless its clock shows a pause."""
        rate_hz = self._rate_hz
        lengths = [self._samples_of(frame.payload) for frame in frames]
        end, step_ms = self._end, self._step_ms
        overlap = step_ms < 0
        self._end += step_ms * rate_hz // 1000
        self._step_ms = 0
        lags = self._lags(frames, lengths)
        missing_ms = self._missing_ms(frames)
        jumps = 0
        for index, frame in enumerate(frames):
            sudden = jumps < _MOST_JUMPS and (missing_ms[index] > 0 or self._has_jumped(lags[index]))
            if index == 0 or sudden:
                jumps += 1
                rest = lags[index:]
                # Missing frames further on explain a part of the lag of the frames after them, which is not a delay.
                low_ms = min(map(sub, rest, accumulate([0, *missing_ms[index + 1 :]])))
                rest_ms = sum(lengths[index:]) * 1000 // rate_hz
                change = 0
                if not self._is_late(low_ms, sudden=sudden):
                    change = self._set_back(lags[index], low_ms)
                elif rest_ms < self.evidence_ms and not final:
                    if index == 0:
                        self._end, self._step_ms = end, step_ms
                    return joiner.pieces(), list(frames[index:])
                elif not _catches_up(rest, rest_ms):
                    late = Late(lags[index], low_ms, missing_ms[index])
                    change = self._move(joiner, frame, late, now_s)
                lags[index:] = [lag - change for lag in rest]
            joiner.add(frame, self._end, lengths[index], overlap=overlap)
            overlap = False
            self._end += lengths[index]
            self._lag_ms = lags[index]
        self._follow(lags, sum(lengths) * 1000 // rate_hz)
        return joiner.pieces(), []

    def _lags(self, frames: Sequence[Frame], lengths: Sequence[int]) -> list[int]:
        """Returns the delay of each frame (ms), if all of them continue the audio before them."""
        rate_hz, shift_ms, position = self._rate_hz, self._shift_ms, self._end
        lags: list[int] = []
        for frame, samples in zip(frames, lengths, strict=True):
            lags.append(frame.ts_ms + shift_ms - position * 1000 // rate_hz)
            position += samples
        return lags

    def _follow(self, lags: Sequence[int], audio_ms: int) -> None:
        """Checks for a drift of the clock. lags: of a window."""
        low_ms = min(lags)
        if _catches_up(lags, audio_ms):
            self._drift.reset(min(self._drift.usual_ms, low_ms))
        else:
            self._step_ms = self._drift.step_ms(low_ms)

    def _one_run(self, frames: Sequence[Frame], samples: int) -> Run:
        """Returns all these frames as one run, directly after the audio before them."""
        first, ts_ms = frames[0], self._end * 1000 // self._rate_hz
        self._end += samples
        return Run(first.track, first.seq, ts_ms, len(frames), b"".join([frame.payload for frame in frames]))


def _catches_up(lags: Sequence[int], audio_ms: int) -> bool:
    """True if frames come faster than real time, up to the last one.

    From the first half to the second their delay falls by a sixth of their audio. It does not at a steady pace, even
    with jitter.
    """
    half = len(lags) // 2
    return half > 0 and (min(lags[:half]) - min(lags[half:])) * 6 > audio_ms
