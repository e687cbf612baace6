"""Faults of networks and carriers. They are decided before anything is sent: the same seed gives the same call."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.carriers.base import Frame


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults of one call. All times are stream times in ms.

    shuffle_ms: the largest random delay of a frame. Frames that have numbers overtake each other; others are only late.
    clock_jitter_ms: the largest error of a timestamp. duplicate, loss: the probability that a frame is sent twice, or
    never. holes: (start, end) of frames that are never sent. drop_at_ms: the connection breaks there, without a stop.

    pauses: (at, for): the carrier sends no audio for so long, and the rest of the audio is later by that. stalls:
    (at, for): messages of this time wait, then leave at once. late_stamps_ms: the largest delay of a timestamp whose
    frame is not late. clock_reset_ms: timestamps count from 0 again from there on; numbers do not.
    """

    shuffle_ms: int = 0
    clock_jitter_ms: int = 0
    duplicate: float = 0.0
    loss: float = 0.0
    holes: Sequence[tuple[int, int]] = ()
    drop_at_ms: int | None = None
    pauses: Sequence[tuple[int, int]] = ()
    stalls: Sequence[tuple[int, int]] = ()
    late_stamps_ms: int = 0
    clock_reset_ms: int | None = None
    seed: int = 0

    @property
    def need_numbers(self) -> bool:
        """True if the gateway can repair these faults only for frames with numbers and timestamps."""
        wrong_stamps = self.clock_jitter_ms or self.late_stamps_ms or self.clock_reset_ms is not None
        return bool(wrong_stamps or self.duplicate or self.loss or self.holes)

    def spoken_ms(self, at_ms: int) -> int:
        """Returns the time at which the audio at this position of the file is spoken."""
        return at_ms + sum(for_ms for pause_ms, for_ms in self.pauses if pause_ms <= at_ms)

    def left_ms(self, due_ms: float) -> float:
        """Returns the time at which a message leaves that is due at this time."""
        for stall_ms, for_ms in self.stalls:
            if stall_ms <= due_ms < stall_ms + for_ms:
                due_ms = stall_ms + for_ms
        return due_ms

    def stamp_ms(self, spoken_ms: int, rng: random.Random) -> int:
        """Returns the timestamp of a frame that is spoken at this time."""
        if self.clock_reset_ms is not None and spoken_ms >= self.clock_reset_ms:
            spoken_ms -= self.clock_reset_ms
        off_ms = rng.randint(-self.clock_jitter_ms, self.clock_jitter_ms)
        late_ms = rng.randint(0, self.late_stamps_ms) if self.late_stamps_ms else 0
        return max(0, spoken_ms + off_ms + late_ms)


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Sending:
    """Frames of one message, and the stream time at which it leaves."""

    due_ms: float
    frames: tuple[Frame, ...]


def numbered(tracks: Mapping[str, Sequence[bytes]], frame_ms: int, faults: Faults) -> list[Sending]:
    """Returns one message for each frame, in the order in which the messages leave."""
    rng = random.Random(faults.seed)
    plan = []
    for track, payloads in tracks.items():
        for number, payload in enumerate(payloads):
            at_ms = faults.spoken_ms(number * frame_ms)
            if any(start <= at_ms < end for start, end in faults.holes):
                continue
            frame = Frame(track, number + 1, faults.stamp_ms(at_ms, rng), payload)
            for _ in range(2 if rng.random() < faults.duplicate else 1):
                # A frame cannot leave before the end of its audio.
                due_ms = faults.left_ms(at_ms + frame_ms + rng.uniform(0, faults.shuffle_ms))
                lost = faults.loss > 0 and rng.random() < faults.loss
                if not lost and _before_drop(due_ms, faults):
                    plan.append(Sending(due_ms, (frame,)))
    # The sort is stable: without shuffling, the tracks alternate.
    return sorted(plan, key=lambda sending: sending.due_ms)


def unnumbered(tracks: Mapping[str, Sequence[bytes]], frame_ms: int, faults: Faults) -> list[Sending]:
    """Returns one message for the frames of all tracks at one time. Such messages cannot overtake each other."""
    rng = random.Random(faults.seed)
    plan: list[Sending] = []
    for number, payloads in enumerate(zip(*tracks.values(), strict=True)):
        at_ms = faults.spoken_ms(number * frame_ms)
        due_ms = faults.left_ms(at_ms + frame_ms + rng.uniform(0, faults.shuffle_ms))
        due_ms = max(due_ms, plan[-1].due_ms if plan else 0.0)
        if _before_drop(due_ms, faults):
            moment = zip(tracks, payloads, strict=True)
            frames = (Frame(track, number + 1, at_ms, payload) for track, payload in moment)
            plan.append(Sending(due_ms, tuple(frames)))
    return plan


def _before_drop(due_ms: float, faults: Faults) -> bool:
    return faults.drop_at_ms is None or due_ms < faults.drop_at_ms
