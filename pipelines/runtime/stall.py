"""Tells a consumer that silently stopped from one that has nothing to do. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

Place = tuple[str, int]  # topic, partition


class ConsumerStalledError(Exception):
    """The consumer gets nothing although there is more and more to get. Only a new process helps."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A partition: the next offset its consumer is to get, and one past the last on the log."""

    position: int
    end: int


@dataclass(frozen=True, slots=True)
class _Standing:
    progress: Progress  # when the position was first seen
    growing_since_s: float | None


class StallDetector:
    """A partition is stalled when its end moves and for `patience_s` seconds its position does not.

    That the log must have grown, and not only be longer, spares a consumer that waits behind a transaction's marker or
    a hole, where position and end never meet.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._standing: dict[Place, _Standing] = {}

    def observe(self, now_s: float, seen: Mapping[Place, Progress]) -> list[Place]:
        """The stalled among the partitions that are being read now. now_s: monotonic. What is left out is forgotten;
        so observe nothing while the log is away, or its return would look like a stall."""
        standing: dict[Place, _Standing] = {}
        for place, progress in seen.items():
            before = self._standing.get(place)
            if before is None or before.progress.position != progress.position:
                standing[place] = _Standing(progress, None)
            elif before.growing_since_s is None and progress.end > before.progress.end:
                standing[place] = _Standing(before.progress, now_s)
            else:
                standing[place] = before
        self._standing = standing
        return [
            place
            for place, at in standing.items()
            if at.growing_since_s is not None and now_s - at.growing_since_s >= self._patience_s
        ]
