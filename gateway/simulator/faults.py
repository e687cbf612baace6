"""What goes wrong on the way, decided before anything is sent: the same seed is the same call."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.carriers.base import Frame


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the way. All times are stream times in ms.

    shuffle_ms: each frame is late by a random part of this, so that frames overtake each other (where a carrier's
    frames have numbers; elsewhere they are only late). clock_jitter_ms: each timestamp is off by up to this.
    duplicate, loss: probability that a frame is sent twice, or never. holes: (start, end) of frames that are never
    sent. drop_at_ms: the connection is cut there, without stop.

    pauses: (at, for): nothing is said for so long, and what follows is that much later. stalls: (at, for): what leaves
    meanwhile waits, and then leaves at once. late_stamps_ms: each timestamp is late by up to this, though its frame is
    not. clock_reset_ms: from there on timestamps count from 0 again; numbers do not.
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
        """Whether only frames that are numbered and timed can be put right afterwards."""
        spoilt_stamps = self.clock_jitter_ms or self.late_stamps_ms or self.clock_reset_ms is not None
        return bool(spoilt_stamps or self.duplicate or self.loss or self.holes)

    def said_ms(self, at_ms: int) -> int:
        """When audio is said that lies here in the file."""
        return at_ms + sum(for_ms for pause_ms, for_ms in self.pauses if pause_ms <= at_ms)

    def left_ms(self, due_ms: float) -> float:
        """When a message leaves that is due then."""
        for stall_ms, for_ms in self.stalls:
            if stall_ms <= due_ms < stall_ms + for_ms:
                due_ms = stall_ms + for_ms
        return due_ms

    def stamp_ms(self, said_ms: int, chance: random.Random) -> int:
        """The timestamp of a frame that is said then."""
        if self.clock_reset_ms is not None and said_ms >= self.clock_reset_ms:
            said_ms -= self.clock_reset_ms
        off_ms = chance.randint(-self.clock_jitter_ms, self.clock_jitter_ms)
        late_ms = chance.randint(0, self.late_stamps_ms) if self.late_stamps_ms else 0
        return max(0, said_ms + off_ms + late_ms)


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Sending:
    """The frames of one message, and the stream time at which it leaves."""

    due_ms: float
    frames: tuple[Frame, ...]


def numbered(tracks: Mapping[str, Sequence[bytes]], frame_ms: int, faults: Faults) -> list[Sending]:
    """A message for each frame, in the order in which they leave."""
    chance = random.Random(faults.seed)
    plan = []
    for track, payloads in tracks.items():
        for number, payload in enumerate(payloads):
            at_ms = faults.said_ms(number * frame_ms)
            if any(start <= at_ms < end for start, end in faults.holes):
                continue
            frame = Frame(track, number + 1, faults.stamp_ms(at_ms, chance), payload)
            for _ in range(2 if chance.random() < faults.duplicate else 1):
                # A frame cannot leave before its audio has been spoken.
                due_ms = faults.left_ms(at_ms + frame_ms + chance.uniform(0, faults.shuffle_ms))
                lost = faults.loss > 0 and chance.random() < faults.loss
                if not lost and _before_the_cut(due_ms, faults):
                    plan.append(Sending(due_ms, (frame,)))
    # Stable: without shuffling the tracks alternate.
    return sorted(plan, key=lambda sending: sending.due_ms)


def bare(tracks: Mapping[str, Sequence[bytes]], frame_ms: int, faults: Faults) -> list[Sending]:
    """A message for all tracks' frames of one moment, each after the other: such frames cannot overtake."""
    chance = random.Random(faults.seed)
    plan: list[Sending] = []
    for number, payloads in enumerate(zip(*tracks.values(), strict=True)):
        at_ms = faults.said_ms(number * frame_ms)
        due_ms = faults.left_ms(at_ms + frame_ms + chance.uniform(0, faults.shuffle_ms))
        due_ms = max(due_ms, plan[-1].due_ms if plan else 0.0)
        if _before_the_cut(due_ms, faults):
            moment = zip(tracks, payloads, strict=True)
            frames = (Frame(track, number + 1, at_ms, payload) for track, payload in moment)
            plan.append(Sending(due_ms, tuple(frames)))
    return plan


def _before_the_cut(due_ms: float, faults: Faults) -> bool:
    return faults.drop_at_ms is None or due_ms < faults.drop_at_ms
