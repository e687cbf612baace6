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
    """

    shuffle_ms: int = 0
    clock_jitter_ms: int = 0
    duplicate: float = 0.0
    loss: float = 0.0
    holes: Sequence[tuple[int, int]] = ()
    drop_at_ms: int | None = None
    seed: int = 0

    @property
    def need_numbers(self) -> bool:
        """Whether only frames that are numbered and timed can be put right afterwards."""
        return bool(self.clock_jitter_ms or self.duplicate or self.loss or self.holes)


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
            at_ms = number * frame_ms
            if any(start <= at_ms < end for start, end in faults.holes):
                continue
            ts_ms = max(0, at_ms + chance.randint(-faults.clock_jitter_ms, faults.clock_jitter_ms))
            frame = Frame(track, number + 1, ts_ms, payload)
            for _ in range(2 if chance.random() < faults.duplicate else 1):
                # A frame cannot leave before its audio has been spoken.
                due_ms = at_ms + frame_ms + chance.uniform(0, faults.shuffle_ms)
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
        due_ms = (number + 1) * frame_ms + chance.uniform(0, faults.shuffle_ms)
        due_ms = max(due_ms, plan[-1].due_ms if plan else 0.0)
        if _before_the_cut(due_ms, faults):
            moment = zip(tracks, payloads, strict=True)
            frames = (Frame(track, number + 1, number * frame_ms, payload) for track, payload in moment)
            plan.append(Sending(due_ms, tuple(frames)))
    return plan


def _before_the_cut(due_ms: float, faults: Faults) -> bool:
    return faults.drop_at_ms is None or due_ms < faults.drop_at_ms
