"""Deletes the states of finished calls, so that the recorder's state does not grow without end.

The state of a call prevents a late stream from overwriting the call's first part. It is deleted once call.media has no
more records of the call, so that reading the topic again could not restore it either, and once no stream can still
arrive. Like every decision, the deletion is a record on the log (pipelines.recorder.state_machine). It takes effect
only if it refers to the call's last record.
"""

import time
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Protocol

from pipelines.recorder.state_codec import Call
from pipelines.recorder.state_machine import CallState, forget_record
from schemas.media import MediaRecord

AFTER_S = 7 * 24 * 3_600.0
"""Minimum age of a deleted state. No gateway buffers audio for this long, and no carrier resumes a call after it."""
_EVERY_S = 3_600.0
_STATES_PER_TICK = 200  # checked between two records, in about a millisecond


class StateStore(Protocol):
    """The states and the log. See pipelines.recorder.partition_lifecycle.Partitions."""

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        """Yields the states of a partition, ordered by key."""
        ...

    def first_offset(self, partition: int) -> int | None:
        """Returns the earliest offset of a partition on the log; None if the log does not report it now."""
        ...


class StateReaper:
    """Checks all states from time to time, a few at a time. Belongs to the thread that reads the log."""

    def __init__(
        self, propose: Callable[[MediaRecord, int], None], *, after_s: float = AFTER_S, every_s: float = _EVERY_S
    ) -> None:
        """Creates a reaper.

        Args:
            propose: Writes a record to a partition of call.media.
            after_s: Minimum age of a deleted state, in seconds.
            every_s: Seconds between the starts of two complete checks.
        """
        self._propose = propose
        self._after_s = after_s
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._partitions_left: list[int] = []  # partitions still to check; the first one is in progress
        self._first_offset: int | None = None  # earliest offset of that partition on the log
        self._last_call: Call | None = None  # the last call that was checked

    def tick(self, partitions: StateStore, owned: Collection[int]) -> None:
        """Checks the next states. Costs almost nothing if no check is due."""
        if not self._partitions_left:
            if time.monotonic() < self._due:
                return
            self._due = time.monotonic() + self._every_s
            self._partitions_left = sorted(owned)
        while self._partitions_left and self._partitions_left[0] not in owned:
            self._next()
        if self._partitions_left and not self._walk(partitions, self._partitions_left[0]):
            self._next()

    def _next(self) -> None:
        self._partitions_left.pop(0)
        self._first_offset = self._last_call = None

    def _walk(self, partitions: StateStore, partition: int) -> bool:
        """Checks some states of the partition. Returns True if there are more."""
        if self._first_offset is None:
            self._first_offset = partitions.first_offset(partition)
        if self._first_offset is None:
            return False
        now_ms = time.time_ns() // 1_000_000
        found = list(islice(partitions.states(partition, self._last_call), _STATES_PER_TICK))
        for call, state in found:
            if state.finished and state.last < self._first_offset and now_ms - state.at_ms >= self._after_s * 1000:
                self._propose(forget_record(call, state, now_ms), partition)
        self._last_call = found[-1][0] if found else None
        return len(found) == _STATES_PER_TICK
