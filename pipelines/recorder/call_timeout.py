"""The recorder's clock: it notices that a call is over and says so on the log.

It only ever proposes. Its `close` record names the last record it knew of, and counts only if the log has none of
the call between that one and the close itself (see pipelines.recorder.state_machine). So a recorder that is behind,
or two that both believe to own a call, cannot cut it short.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.recorder.journal import PartId
from schemas.media import CloseReason, MediaRecord, RecordType

log = logging.getLogger(__name__)

Propose = Callable[[MediaRecord, int], None]
"""Puts a record on a partition of call.media."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """An open part as its last record left it. seen: that record's offset; ended: all its streams have ended."""

    identity: PartId
    carrier: str
    seen: int
    ended: bool


class CallTimeouts:
    """Watches open parts. Thread-safe."""

    def __init__(self, *, grace_ms: int, idle_timeout_ms: int, propose: Propose) -> None:
        self._grace_s = grace_ms / 1000
        self._idle_s = idle_timeout_ms / 1000
        self._propose = propose
        self._changed = threading.Condition()
        # Of each open part, and when it is to be closed (time.monotonic). The heap may hold outdated times of a
        # part; what counts is the dictionary.
        self._watched: dict[PartId, tuple[OpenCall, float]] = {}
        self._due: list[tuple[float, int, PartId]] = []
        self._pushed = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="closer", daemon=True)

    def start(self) -> None:
        """Starts the clock."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the clock. Whoever is watched is found again in the calls' states."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(2)

    @property
    def open_calls(self) -> int:
        """How many parts are open."""
        return len(self._watched)

    def touch(self, watched: OpenCall) -> None:
        """A record of the part was processed just now."""
        due = time.monotonic() + (self._grace_s if watched.ended else self._idle_s)
        with self._changed:
            before = self._watched.get(watched.identity)
            self._watched[watched.identity] = (watched, due)
            if before is None or due < before[1]:
                self._push(due, watched.identity)
                self._changed.notify()

    def forget(self, identity: PartId) -> None:
        """The part is closed."""
        with self._changed:
            self._watched.pop(identity, None)

    def on_revoked(self, partition: int) -> None:
        """The partition's calls are somebody else's now."""
        with self._changed:
            self._watched = {
                identity: entry for identity, entry in self._watched.items() if identity.partition != partition
            }

    def _push(self, due: float, identity: PartId) -> None:
        self._pushed += 1  # ties must not compare identities
        heapq.heappush(self._due, (due, self._pushed, identity))

    def _run(self) -> None:
        while (watched := self._next()) is not None:
            reason = CloseReason.ENDED if watched.ended else CloseReason.IDLE
            self._propose(close_record(watched, reason, time.time_ns() // 1_000_000), watched.identity.partition)

    def _next(self) -> OpenCall | None:
        """Waits for the next part that is due; it is watched again only when another record of it comes."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                if not self._due or self._due[0][0] > now:
                    self._changed.wait(self._due[0][0] - now if self._due else None)
                    continue
                identity = heapq.heappop(self._due)[2]
                entry = self._watched.get(identity)
                if entry is None:
                    continue
                if entry[1] > now:
                    self._push(entry[1], identity)
                    continue
                del self._watched[identity]
                return entry[0]
        return None


def close_record(watched: OpenCall, reason: CloseReason, at_ms: int) -> MediaRecord:
    """The proposal to close a part. at_ms: now, ms since the epoch."""
    return MediaRecord(
        type=RecordType.CLOSE,
        call_id=watched.identity.call_id,
        tenant=watched.identity.tenant,
        carrier=watched.carrier,
        stream_id="",
        at_ms=at_ms,
        detail=reason,
        seen=watched.seen,
        part=watched.identity.part,
    )
