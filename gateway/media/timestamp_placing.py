"""Placement of audio that has timestamps and sequence numbers. No I/O."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from gateway.carriers.base import Frame
from gateway.media.placing import TOLERANCE_MS, Joiner, Late, Piece, Placer, Run
from schemas.codecs import SamplesOf

LATE_STAMP_MS = 40
"""Jump of a timestamp that may begin a pause though no number is missing. Real timestamps are up to 30 ms late."""

EXACT_MS = 2
"""Error of a correct carrier's clock from one frame to the next."""

SET_BACK_MS = 200
"""Step back of a timestamp that shows that its clock was set and counts from another zero."""

CLOCK_SET_MS = 600_000
"""Step ahead of a timestamp that shows the same, if less time has passed."""

STREAM_MS = 7 * 24 * 3_600_000
"""Largest plausible first timestamp. A larger one counts from another epoch than the stream's start."""

_REMEMBERED_MS = 5_000  # a hole waits for late frames for so long
_REMEMBERED_HOLES = 250  # the number of 20 ms frames in that time
_REMEMBERED_FRAMES = 150  # repetitions arrive within 3 s


class TimestampPlacer(Placer):
    """Places frames by the carrier's timestamps, or by its sequence numbers where the timestamps contradict the audio.

    Frames may come in any order, and twice. A frame that comes after its window fills the hole that it left.
    """

    evidence_ms = 100

    def __init__(self, samples_of: SamplesOf, rate_hz: int) -> None:
        super().__init__(samples_of, rate_hz, LATE_STAMP_MS // 2)
        self._tolerance = TOLERANCE_MS * rate_hz // 1000
        self._started = False
        self._last_seq = -1
        self._contradicted = False  # the audio of the last window contradicted the timestamps
        self._stride = 1  # difference of two successive numbers of the track
        self._last_s = 0.0  # time at which the last window was placed
        self._holes: list[tuple[int, int]] = []  # begin and end, in samples
        self._known: deque[int] = deque(maxlen=_REMEMBERED_FRAMES)  # frames placed so far: time and audio

    def place(self, frames: Sequence[Frame], now_s: float, *, final: bool) -> tuple[list[Piece], list[Frame]]:
        """Returns the window's pieces, and the frames that wait for the next window. See Placer."""
        if not frames:
            return [], []
        if not self._started:
            self._begin_at(min([frame.ts_ms for frame in frames]))
            self._last_s = now_s
        placed = self._as_expected(frames)
        if placed is None and self._trusts(frames):
            placed = self._by_timestamps(sorted(frames, key=_time_of), now_s, final=final)
        self._contradicted = placed is None
        if placed is None:
            placed = self._by_numbers(sorted(frames, key=_number_of), now_s, final=final)
        pieces, held = placed
        left = {(frame.ts_ms, frame.payload) for frame in held}  # repetitions of these frames wait as well
        done = [frame for frame in frames if (frame.ts_ms, frame.payload) not in left] if left else frames
        if done:
            self._started = True
            self._last_s = now_s
            self._last_seq = max([frame.seq for frame in done])
            self._known.extend([hash(frame.payload) ^ frame.ts_ms for frame in done])
            if self._holes:
                oldest = self._end - _REMEMBERED_MS * self._rate_hz // 1000
                self._holes = [hole for hole in self._holes[-_REMEMBERED_HOLES:] if hole[1] > oldest]
        return pieces, held

    def _begin_at(self, ts_ms: int) -> None:
        """Begins the timeline at this timestamp. Frames that were overtaken may still get positions before it."""
        self._shift_ms = -ts_ms if ts_ms > STREAM_MS else 0
        self._end = (ts_ms + self._shift_ms) * self._rate_hz // 1000
        self._holes = [(self._end - _REMEMBERED_MS * self._rate_hz // 1000, self._end)]

    def _trusts(self, frames: Sequence[Frame]) -> bool:
        """True if timestamps may place these frames.

        After timestamps have contradicted the audio, a window that is too short to show a contradiction is not enough.
        """
        if self._step_ms:
            return False
        if not self._contradicted:
            return True
        audio_ms = sum([self._samples_of(frame.payload) for frame in frames]) * 1000 // self._rate_hz
        return audio_ms > 2 * self.evidence_ms

    def _as_expected(self, frames: Sequence[Frame]) -> tuple[list[Piece], list[Frame]] | None:
        """Places frames that came in order, each at the end of the one before it. Returns None if one did not."""
        if self._step_ms:
            return None
        rate_hz, shift_ms, tolerance, samples_of = self._rate_hz, self._shift_ms, self._tolerance, self._samples_of
        position = self._end
        for frame in frames:
            if not -tolerance <= (frame.ts_ms + shift_ms) * rate_hz // 1000 - position <= tolerance:
                return None
            position += samples_of(frame.payload)
        self._lag_ms = 0
        return [self._one_run(frames, position - self._end)], []

    def _by_timestamps(
        self, ordered: Sequence[Frame], now_s: float, *, final: bool
    ) -> tuple[list[Piece], list[Frame]] | None:
        """Places frames, ordered by time, by their timestamps. Returns None if those contradict the audio."""
        rate_hz, shift_ms, tolerance, samples_of = self._rate_hz, self._shift_ms, self._tolerance, self._samples_of
        end = self._end
        if _stands_still(ordered):
            return None
        known = self._known_before(ordered[0])
        again: list[Frame] = []
        runs: list[tuple[int, int, list[Frame]]] = []  # begin, end
        run: list[Frame] = []
        start = position = 0
        for frame in _distinct(ordered):
            if known and (hash(frame.payload) ^ frame.ts_ms) in known:
                again.append(frame)
                continue
            at = (frame.ts_ms + shift_ms) * rate_hz // 1000
            if not run or abs(at - position) > tolerance:
                if run:
                    if at < position:
                        return None
                    runs.append((start, position, run))
                run = []
                start = position = end if abs(at - end) <= tolerance else at
            run.append(frame)
            position += samples_of(frame.payload)
        if run:
            runs.append((start, position, run))
        if self._is_new(again):
            return None
        return self._lay_out(runs, now_s, final=final)

    def _is_new(self, again: Sequence[Frame]) -> bool:
        """True if frames that look like repetitions are new ones, from a clock that was set back or stands still.

        Silent frames are equal to each other, but the numbers of new ones increase, and they come in order.
        """
        renumbered = sorted([frame for frame in again if frame.seq > self._last_seq], key=_number_of)
        in_order = 0
        for before, after in pairwise(renumbered):
            duration_ms = self._samples_of(before.payload) * 1000 // self._rate_hz
            late_ms = after.ts_ms - before.ts_ms
            in_order += self._is_next(before.seq, after) and min(abs(late_ms), abs(late_ms - duration_ms)) <= EXACT_MS
        return in_order >= 4 and in_order * 2 > len(renumbered)

    def _lay_out(
        self, runs: Sequence[tuple[int, int, list[Frame]]], now_s: float, *, final: bool
    ) -> tuple[list[Piece], list[Frame]] | None:
        """Returns the runs as pieces. Returns None, and changes nothing, if one does not fit."""
        rate_hz, end, holes = self._rate_hz, self._end, self._holes
        pieces: list[Piece] = []
        held: list[Frame] = []
        before_seq = self._last_seq
        for start, stop, run in runs:
            if start >= end - self._tolerance:
                late_ms = (start - end) * 1000 // rate_hz
                if late_ms > CLOCK_SET_MS and self._was_set(late_ms, now_s):
                    return None
                if late_ms > TOLERANCE_MS:
                    if (
                        late_ms <= LATE_STAMP_MS
                        and self._is_next(before_seq, run[0])
                        and not self._fits_whole_frames(late_ms, run)
                    ):
                        return None
                    short = (stop - start) * 1000 < self.evidence_ms * rate_hz
                    if late_ms > LATE_STAMP_MS and short and run is runs[-1][2] and not final:
                        held = run
                        break
                    holes = [*holes, (end, start)]
                end = stop
            else:
                left = _filled(holes, start, stop, self._tolerance)
                if left is None:
                    return None
                holes = left
            before_seq = run[-1].seq
            first = run[0]
            payload = b"".join([frame.payload for frame in run])
            pieces.append(Run(first.track, first.seq, start * 1000 // rate_hz, len(run), payload))
        self._end, self._holes, self._lag_ms = end, holes, 0
        return pieces, held

    def _is_next(self, seq: int, frame: Frame) -> bool:
        """True if the frame's number follows this one, so that nothing is missing."""
        return frame.seq - seq in {1, self._stride}

    def _fits_whole_frames(self, late_ms: int, run: Sequence[Frame]) -> bool:
        """True if a whole number of frames like this fills the time. Some carriers only number the frames they send."""
        frame_ms = max(1, self._samples_of(run[0].payload) * 1000 // self._rate_hz)
        return min(late_ms % frame_ms, -late_ms % frame_ms) <= EXACT_MS

    def _by_numbers(self, ordered: Sequence[Frame], now_s: float, *, final: bool) -> tuple[list[Piece], list[Frame]]:
        """Places frames, ordered by number, one after the other. The numbers show that nothing is missing."""
        joiner = Joiner(self._rate_hz)
        known = frozenset(self._known)
        seen: set[tuple[int, int, bytes]] = set()
        following: list[Frame] = []
        for frame in ordered:
            key = (frame.seq, frame.ts_ms, frame.payload)
            again = frame.seq <= self._last_seq and (hash(frame.payload) ^ frame.ts_ms) in known
            if key in seen or again:
                continue
            seen.add(key)
            if frame.seq < self._last_seq:
                start = (frame.ts_ms + self._shift_ms) * self._rate_hz // 1000
                samples = self._samples_of(frame.payload)
                left = _filled(self._holes, start, start + samples, self._tolerance)
                if left is not None:
                    self._holes = left
                    joiner.add(frame, start, samples)
                    continue
            following.append(frame)
        if not following:
            return joiner.pieces(), []
        if not self._started:
            # The first timestamp may be late. Timestamps that stand still do not show that.
            first_ms = following[0].ts_ms
            least_ms = _earliest_begin_ms(following, self._samples_of, self._rate_hz)
            self._begin_at(least_ms if TOLERANCE_MS < first_ms - least_ms <= LATE_STAMP_MS else first_ms)
        # Some carriers number the messages of each track, others all messages of the stream.
        strides = sorted([after.seq - before.seq for before, after in pairwise(following)])
        self._stride = max(1, strides[len(strides) // 2]) if strides else self._stride
        return self._in_order(joiner, following, now_s, final=final)

    def _missing_ms(self, frames: Sequence[Frame]) -> Sequence[int]:
        last_seq, missing_ms = self._last_seq, []
        for frame in frames:
            count = (frame.seq - last_seq) // self._stride - 1 if last_seq >= 0 else 0
            missing_ms.append(max(0, count) * self._samples_of(frame.payload) * 1000 // self._rate_hz)
            last_seq = frame.seq
        return missing_ms

    def _has_jumped(self, lag_ms: int) -> bool:
        return not -SET_BACK_MS <= lag_ms - self._lag_ms <= LATE_STAMP_MS

    def _is_late(self, low_ms: int, *, sudden: bool) -> bool:
        return low_ms > (TOLERANCE_MS if sudden else LATE_STAMP_MS)

    def _move(self, _joiner: Joiner, _frame: Frame, late: Late, now_s: float) -> int:
        missing_ms = late.missing_ms
        agree = missing_ms and missing_ms - TOLERANCE_MS <= late.low_ms <= missing_ms + LATE_STAMP_MS
        late_ms = missing_ms if agree else late.typical_ms
        self._drift.reset(0)
        if late_ms > CLOCK_SET_MS and self._was_set(late_ms, now_s):
            self._shift_ms -= late_ms
        else:
            start = self._end
            self._end += late_ms * self._rate_hz // 1000
            self._holes = [*self._holes, (start, self._end)]
        return late_ms

    def _set_back(self, lag_ms: int, low_ms: int) -> int:
        if lag_ms >= -SET_BACK_MS or lag_ms - self._lag_ms >= -SET_BACK_MS:
            return 0
        early_ms = Late(lag_ms, low_ms).typical_ms
        self._shift_ms -= early_ms
        self._drift.reset(0)
        return early_ms

    def _was_set(self, late_ms: int, now_s: float) -> bool:
        """True if a timestamp jumped ahead by more than the time that has passed."""
        return (now_s - self._last_s) * 2000 < late_ms

    def _known_before(self, first: Frame) -> frozenset[int]:
        """Returns the keys of the frames placed so far, if this frame may repeat one of them."""
        at = (first.ts_ms + self._shift_ms) * self._rate_hz // 1000
        return frozenset(self._known) if at < self._end - self._tolerance else frozenset()


def _earliest_begin_ms(frames: Sequence[Frame], samples_of: SamplesOf, rate_hz: int) -> int:
    """Returns the begin of these successive frames (ms), by the timestamp of the frame with the smallest delay."""
    samples, least_ms = 0, frames[0].ts_ms
    for frame in frames:
        least_ms = min(least_ms, frame.ts_ms - samples * 1000 // rate_hz)
        samples += samples_of(frame.payload)
    return least_ms


def _time_of(frame: Frame) -> tuple[int, int]:
    return frame.ts_ms, frame.seq


def _number_of(frame: Frame) -> int:
    return frame.seq


def _stands_still(ordered: Sequence[Frame]) -> bool:
    """True if too many frames share a timestamp and audio to be repetitions of one frame."""
    return any(
        one.ts_ms == other.ts_ms and one.payload == other.payload
        for one, other in zip(ordered, ordered[3:], strict=False)
    )


def _distinct(ordered: Sequence[Frame]) -> Sequence[Frame]:
    """Returns the frames without those that repeat a timestamp and its audio. ordered: by timestamp."""
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


def _filled(holes: Sequence[tuple[int, int]], start: int, stop: int, tolerance: int) -> list[tuple[int, int]] | None:
    """Returns the holes that remain after start to stop is filled. Returns None if it fits into none of them."""
    for index, (begin, end) in enumerate(holes):
        if begin - tolerance <= start and stop <= end + tolerance:
            rest = [(begin, start), (stop, end)]
            return [*holes[:index], *(one for one in rest if one[1] - one[0] > tolerance), *holes[index + 1 :]]
    return None
