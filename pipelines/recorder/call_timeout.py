"""Time-outs of open calls: detects that a call is over, and proposes on the log to close it.

A `close` record names the last record that this recorder knew. It takes effect only if the log has no other record of
the call between that one and the close (see pipelines.recorder.state_machine). So neither a recorder that is behind
nor two recorders that both assume to own a call can cut it short.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.recorder.journal import PartId
from schemas.media import CloseReason, MediaRecord, RecordType

logger = logging.getLogger(__name__)

Propose = Callable[[MediaRecord, int], None]
"""Writes a record to a partition of call.media."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """An open part after its last record. last_offset: of that record; ended: True if all its streams have ended."""

    identity: PartId
    carrier: str
    last_offset: int
    ended: bool


class CallTimeouts:
    """Closes open parts after a time-out. Thread-safe."""

    def __init__(self, *, grace_ms: int, idle_timeout_ms: int, propose: Propose) -> None:
        self._grace_s = grace_ms / 1000
        self._idle_s = idle_timeout_ms / 1000
        self._propose = propose
        self._changed = threading.Condition()
        # Each open part and the time at which it is closed (time.monotonic). The heap may have outdated times; the
        # dictionary is correct.
        self._open: dict[PartId, tuple[OpenCall, float]] = {}
        self._due: list[tuple[float, int, PartId]] = []
        self._pushed = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="call-timeouts", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread. The next start finds the open parts in the states of the calls."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(2)

    @property
    def open_calls(self) -> int:
        """Number of open parts."""
        return len(self._open)

    def touch(self, call: OpenCall) -> None:
        """Restarts the time-out of a part, because one of its records was processed."""
        due = time.monotonic() + (self._grace_s if call.ended else self._idle_s)
        with self._changed:
            before = self._open.get(call.identity)
            self._open[call.identity] = (call, due)
            if before is None or due < before[1]:
                self._push(due, call.identity)
                self._changed.notify()

    def forget(self, identity: PartId) -> None:
        """Drops a part, because it is closed."""
        with self._changed:
            self._open.pop(identity, None)

    def on_revoked(self, partition: int) -> None:
        """Drops the parts of a revoked partition."""
        with self._changed:
            self._open = {identity: entry for identity, entry in self._open.items() if identity.partition != partition}

    def _push(self, due: float, identity: PartId) -> None:
        self._pushed += 1  # a unique number, because the heap cannot compare identities
        heapq.heappush(self._due, (due, self._pushed, identity))

    def _run(self) -> None:
        while (watched := self._next()) is not None:
            reason = CloseReason.ENDED if watched.ended else CloseReason.IDLE
            self._propose(close_record(watched, reason, time.time_ns() // 1_000_000), watched.identity.partition)

    def _next(self) -> OpenCall | None:
        """Waits for the next part that is due and drops it. Another record of the part adds it again."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                if not self._due or self._due[0][0] > now:
                    self._changed.wait(self._due[0][0] - now if self._due else None)
                    continue
                identity = heapq.heappop(self._due)[2]
                entry = self._open.get(identity)
                if entry is None:
                    continue
                if entry[1] > now:
                    self._push(entry[1], identity)
                    continue
                del self._open[identity]
                return entry[0]
        return None


def close_record(call: OpenCall, reason: CloseReason, at_ms: int) -> MediaRecord:
    """Returns the record that proposes to close a part. at_ms: now (ms since the epoch)."""
    return MediaRecord(
        type=RecordType.CLOSE,
        call_id=call.identity.call_id,
        tenant=call.identity.tenant,
        carrier=call.carrier,
        stream_id="",
        at_ms=at_ms,
        detail=reason,
        seen=call.last_offset,
        part=call.identity.part,
    )
