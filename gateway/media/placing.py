"""Decides where the frames of one track belong on their stream's clock. No I/O.

The decision is made once, here, and travels on the log as each run's `ts_ms`; the recorder and every replay follow it.

A carrier's timestamps decide as long as they make sense: frames that follow each other without an overlap lie where
their timestamps say. Timestamps that contradict the audio (they start again at 0, stand still, belong to another
epoch, or are late) are recognised by the overlap they would cause. Then the sequence numbers decide: they say in which
order the audio belongs, and nothing of it is thrown away. Carriers that send no timestamps are placed by the time of
arrival.

A clock that is late (a timestamp or an arrival) means one of two things, and only the frames that follow show which.
If they come faster than they sound, the carrier is catching up after a stall: nothing is missing. If they come at the
pace of the audio, there was a pause.
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
"""How far a timestamp may be off its place in a run: half a frame. Carriers' clocks jitter by 1 to 2 ms."""

STEP_MS = 15
"""A clock that drifts is followed in steps of this, which is less than the shortest gap that is reported."""

_DRIFT_WINDOWS = 20  # 10 s: a drift is what all of them agree on
_DRIFT_SPREAD_MS = 50
_MOST_JUMPS = 50  # of a window that are looked at; a clock that jumps with each frame says nothing, and costs


@dataclass(frozen=True, slots=True)
class Run:
    """Contiguous audio of one track. ts_ms, seq: of the first frame; frames: how many were joined.

    overlap: its beginning sounds together with the end of the audio before it, and neither replaces the other.
    """

    track: str
    seq: int
    ts_ms: int
    frames: int
    payload: bytes
    overlap: bool = False


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch of one track without audio, and the reason."""

    track: str
    ts_ms: int
    duration_ms: int
    reason: str


Piece = Run | Hole


class Joiner:
    """Joins frames to runs. Positions are samples on the stream's clock."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._pieces: list[Piece] = []
        self._frames: list[Frame] = []
        self._start = self._end = 0
        self._overlap = False

    def add(self, frame: Frame, position: int, samples: int, *, overlap: bool = False) -> None:
        """Takes a frame in that begins at this position. It continues the run before if that ends there."""
        if position != self._end or overlap:
            self._close()
        if not self._frames:
            self._start, self._overlap = position, overlap
        self._frames.append(frame)
        self._end = position + samples

    def hole(self, hole: Hole) -> None:
        """Takes a hole in."""
        self._close()
        self._pieces.append(hole)

    def pieces(self) -> list[Piece]:
        """Everything that was taken in, in order."""
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
    """Recognises that a clock is slow or fast: for 10 s it is off by more than `slack_ms`, evenly.

    usual_ms: how late the audio was, at the least, when its clock was last known to be right.
    """

    def __init__(self, slack_ms: int) -> None:
        self.usual_ms = 0
        self._slack_ms = slack_ms
        self._lows: deque[int] = deque(maxlen=_DRIFT_WINDOWS)

    @property
    def settled_ms(self) -> int:
        """How late the audio is now, at the least."""
        return min(self._lows, default=self.usual_ms)

    def reset(self, usual_ms: int) -> None:
        """Takes the clock for right, and the audio for this late."""
        self.usual_ms = usual_ms
        self._lows.clear()

    def step_ms(self, low_ms: int) -> int:
        """Takes in how late a window's audio was, at the least. Returns by how much the audio after it has to move."""
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
    """How late a frame is, and, at the least, it and those after it. missing_ms: how much audio is missing before it by
    its number."""

    lag_ms: int
    low_ms: int
    missing_ms: int = 0

    @property
    def typical_ms(self) -> int:
        """As the frame's own timestamp says, unless others show that the timestamp is late itself."""
        return self.lag_ms if self.lag_ms - self.low_ms <= TOLERANCE_MS else self.low_ms


class Placer(ABC):
    """Places the frames of one track, window by window.

    `_in_order` places frames whose order is known; the subclasses say what a clock that is late means.
    """

    evidence_ms: int
    """Audio that is needed after a jump of the clock to tell a pause from a stall. Less waits for the next window."""

    def __init__(self, samples_of: SamplesOf, rate_hz: int, drift_slack_ms: int) -> None:
        self._samples_of = samples_of
        self._rate_hz = rate_hz
        self._end = 0  # where the audio placed so far ends, in samples
        self._shift_ms = 0  # from the carrier's clock to the stream's
        self._lag_ms = 0  # how late the last frame was
        self._drift = Drift(drift_slack_ms)
        self._step_ms = 0  # by which the next window has to move, since the clock drifts

    @property
    def reached_ms(self) -> int:
        """Where the audio placed so far ends."""
        return self._end * 1000 // self._rate_hz

    @abstractmethod
    def place(self, frames: Sequence[Frame], now_s: float, *, final: bool) -> tuple[list[Piece], list[Frame]]:
        """The window's pieces, and the frames that are left for the next window. final: nothing is left.

        frames: in the order of their arrival. now_s: any monotonic clock.
        """

    @abstractmethod
    def _has_jumped(self, lag_ms: int) -> bool:
        """Whether the clock jumped between the last frame and one that is this late."""

    @abstractmethod
    def _is_late(self, low_ms: int, *, sudden: bool) -> bool:
        """Whether audio that is this late, at the least, cannot continue the audio before it. sudden: the audio before
        it was not late, or frames are missing in between."""

    @abstractmethod
    def _move(self, joiner: Joiner, frame: Frame, late: Late, now_s: float) -> int:
        """Moves late audio to where its clock says. Returns by how much it is less late then."""

    def _missing_ms(self, frames: Sequence[Frame]) -> Sequence[int]:
        """How much audio is missing before each of these frames, by their numbers."""
        return [0] * len(frames)

    def _set_back(self, _lag_ms: int, _low_ms: int) -> int:
        """Follows a clock that was set back. Returns by how much the audio is less late then."""
        return 0

    def _in_order(
        self, joiner: Joiner, frames: Sequence[Frame], now_s: float, *, final: bool
    ) -> tuple[list[Piece], list[Frame]]:
        """Places frames that follow each other: each continues the one before it, unless its clock says otherwise."""
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
                # Frames that are missing further on make later ones no later than they are.
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
        """How late each frame is (ms) if all of them continue the audio before them."""
        rate_hz, shift_ms, position = self._rate_hz, self._shift_ms, self._end
        lags: list[int] = []
        for frame, samples in zip(frames, lengths, strict=True):
            lags.append(frame.ts_ms + shift_ms - position * 1000 // rate_hz)
            position += samples
        return lags

    def _follow(self, lags: Sequence[int], audio_ms: int) -> None:
        """Looks for a drift of the clock. lags: of a window."""
        low_ms = min(lags)
        if _catches_up(lags, audio_ms):
            self._drift.reset(min(self._drift.usual_ms, low_ms))
        else:
            self._step_ms = self._drift.step_ms(low_ms)

    def _one_run(self, frames: Sequence[Frame], samples: int) -> Run:
        """All these frames, right behind the audio before them."""
        first, ts_ms = frames[0], self._end * 1000 // self._rate_hz
        self._end += samples
        return Run(first.track, first.seq, ts_ms, len(frames), b"".join([frame.payload for frame in frames]))


def _catches_up(lags: Sequence[int], audio_ms: int) -> bool:
    """Whether frames come faster than they sound, up to the last one: from one half of them to the other they are less
    late by a sixth of their audio. At a steady pace they are not, however they jitter."""
    half = len(lags) // 2
    return half > 0 and (min(lags[:half]) - min(lags[half:])) * 6 > audio_ms
