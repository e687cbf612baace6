"""Distinguishes a consumer that silently stopped from one that has no work. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

PartitionKey = tuple[str, int]  # topic, partition


class ConsumerStalledError(Exception):
    """The consumer receives no records although the log grows. Only a new process helps."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a partition.

    Attributes:
        position: Offset of the next record that the consumer receives.
        end: One past the last offset on the log.
    """

    position: int
    end: int


@dataclass(frozen=True, slots=True)
class _LastMove:
    progress: Progress  # at the time of the move
    growing_since_s: float | None  # monotonic time at which the end first moved after it


class StallDetector:
    """Reports a partition as stalled if its end moves and its position does not move for `limit_s` seconds.

    The end must move: being ahead of the position is not enough. After a transaction marker or a missing offset the
    position never reaches the end, although the consumer is healthy.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last_moves: dict[PartitionKey, _LastMove] = {}

    def observe(self, now_s: float, progress: Mapping[PartitionKey, Progress]) -> list[PartitionKey]:
        """Records the progress of all partitions that are read now, and returns the stalled ones.

        A partition that is missing from `progress` is forgotten. Pass no partitions while the log is unreachable:
        otherwise its return would look like a stall.

        Args:
            now_s: Monotonic time, in seconds.
            progress: Progress of each partition that is read now.
        """
        moves: dict[PartitionKey, _LastMove] = {}
        for partition, now in progress.items():
            last = self._last_moves.get(partition)
            if last is None or last.progress.position != now.position:
                moves[partition] = _LastMove(now, None)
            elif last.growing_since_s is None and now.end > last.progress.end:
                moves[partition] = _LastMove(last.progress, now_s)
            else:
                moves[partition] = last
        self._last_moves = moves
        return [
            partition
            for partition, last in moves.items()
            if last.growing_since_s is not None and now_s - last.growing_since_s >= self._limit_s
        ]
