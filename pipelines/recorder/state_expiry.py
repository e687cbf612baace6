"""Forgets finished calls, so that what the recorder knows does not grow for ever.

What is known of a call keeps a late stream from overwriting its first part. It goes once nothing of the call is on
call.media any more, so that whoever reads the topic again could not know of it either, and no stream can still be on
its way. As every decision, that is a record on the log (pipelines.recorder.state_machine), which counts only if it
knew of
the call's last record.
"""

import time
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Protocol

from pipelines.recorder.state_codec import Call
from pipelines.recorder.state_machine import CallState, forget_record
from schemas.media import MediaRecord

AFTER_S = 7 * 24 * 3_600.0
"""At the least: no gateway holds audio for so long, and no carrier resumes a call."""
_EVERY_S = 3_600.0
_AT_ONCE = 200  # states looked at between two records: about a millisecond


class States(Protocol):
    """Where the states are, and the log. See pipelines.recorder.partition_lifecycle.Partitions."""

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]: ...
    def begins(self, partition: int) -> int | None: ...


class StateReaper:
    """Walks through all states now and then, a few at a time. propose: puts a record on a partition of call.media.

    Belongs to the thread that reads the log.
    """

    def __init__(
        self, propose: Callable[[MediaRecord, int], None], *, after_s: float = AFTER_S, every_s: float = _EVERY_S
    ) -> None:
        self._propose = propose
        self._after_s = after_s
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._left: list[int] = []  # partitions still to walk through; the first one is under way
        self._begins: int | None = None  # where the log begins of that one
        self._at: Call | None = None  # the last call looked at

    def tick(self, partitions: States, owned: Collection[int]) -> None:
        """Goes on. Costs next to nothing when nothing is due."""
        if not self._left:
            if time.monotonic() < self._due:
                return
            self._due = time.monotonic() + self._every_s
            self._left = sorted(owned)
        while self._left and self._left[0] not in owned:
            self._next()
        if self._left and not self._walk(partitions, self._left[0]):
            self._next()

    def _next(self) -> None:
        self._left.pop(0)
        self._begins = self._at = None

    def _walk(self, partitions: States, partition: int) -> bool:
        """Looks at some states of the partition. Whether there are more."""
        if self._begins is None:
            self._begins = partitions.begins(partition)
        if self._begins is None:
            return False
        now_ms = time.time_ns() // 1_000_000
        found = list(islice(partitions.states(partition, self._at), _AT_ONCE))
        for call, state in found:
            if state.finished and state.last < self._begins and now_ms - state.at_ms >= self._after_s * 1000:
                self._propose(forget_record(call, state, now_ms), partition)
        self._at = found[-1][0] if found else None
        return len(found) == _AT_ONCE
