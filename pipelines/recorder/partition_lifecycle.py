"""Lifecycle of the recorder's partitions: takes over assigned ones and drops revoked ones.

A new partition may have calls without any further record on the log. Their journals are completed from the log, then
their time-outs run and their recordings are made, and only then does the recorder read the partition. For a revoked
partition both stop; its journals stay on this disk until the new owner has recorded them.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.recorder.call_timeout import CallTimeouts, OpenCall
from pipelines.recorder.finalizer import RecordingFinalizer
from pipelines.recorder.journal import PartId
from pipelines.recorder.journal_rebuild import ReadLog, rebuild_journals
from pipelines.recorder.spool import Spool
from pipelines.recorder.state_codec import Call
from pipelines.recorder.state_expiry import AFTER_S, StateReaper
from pipelines.recorder.state_machine import CallState, UnrecordedPart, is_recorded, unrecorded
from redpanda.client import LogUnavailableError

logger = logging.getLogger(__name__)

_REBUILDS = 2  # at the same time: each buffers some megabytes of the log
_CLEANING_INTERVAL_S = 60.0

LookupStates = Callable[[int, Collection[Call], threading.Event], dict[Call, CallState]]
"""Partition, calls, cancelled → the states that the partition's owner has of these calls."""


class Partitions(Protocol):
    """The partitions that are assigned to this process."""

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        """Yields the state of every call at the last commit, ordered by key. after: yields only later keys."""
        ...

    def first_offset(self, partition: int) -> int | None:
        """Returns the earliest offset on the log; None if the log does not report it now."""
        ...

    def pause(self, partition: int) -> None:
        """Stops reading the partition."""
        ...

    def resume(self, partition: int) -> None:
        """Continues reading the partition."""
        ...


@dataclass(slots=True)
class _Rebuild:
    """A thread that completes the journals of a partition."""

    parts: dict[PartId, UnrecordedPart]
    future: Future[dict[PartId, int]]
    cancelled: threading.Event


@dataclass(slots=True)
class _OrphanCleaner:
    """Search for journals of other owners' partitions that are recorded there, and the time of the next search."""

    due: float = 0.0
    future: Future[list[PartId]] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class PartitionLifecycle:
    """Keeps track of the owned partitions.

    Belongs to the thread that reads the log. That thread reports assigned and revoked partitions, and invokes `tick`
    between two records.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        call_timeouts: CallTimeouts,
        finalizer: RecordingFinalizer,
        read_log: ReadLog,
        lookup_states: LookupStates,
        state_reaper: StateReaper,
        cleaning_interval_s: float = _CLEANING_INTERVAL_S,
    ) -> None:
        """Creates the lifecycle without partitions.

        Args:
            spool: Journals on this disk.
            call_timeouts: Closes calls that end or become idle.
            finalizer: Makes the recordings of closed parts.
            read_log: Reads records from the log, to complete journals.
            lookup_states: Reads the states of calls in other owners' partitions.
            state_reaper: Deletes the states of finished calls.
            cleaning_interval_s: Seconds between two searches for recorded journals of other partitions.
        """
        self._spool = spool
        self._call_timeouts = call_timeouts
        self._finalizer = finalizer
        self._read_log = read_log
        self._lookup_states = lookup_states
        self._state_reaper = state_reaper
        self._owned: set[int] = set()
        self._waiting: set[int] = set()  # owned, and their rebuild has not started yet
        self._rebuilds: dict[int, _Rebuild] = {}
        self._workers = ThreadPoolExecutor(_REBUILDS + 1, thread_name_prefix="ownership")
        self._cleaning_interval_s = cleaning_interval_s
        self._orphan_cleaner = _OrphanCleaner(time.monotonic() + cleaning_interval_s)

    @property
    def rebuilding(self) -> int:
        """Number of owned partitions that are not read yet."""
        return len(self._waiting | self._rebuilds.keys())

    def assigned(self, partition: int) -> None:
        """Records that the partition is assigned. It must stay paused until `tick` resumes it."""
        self._owned.add(partition)
        self._waiting.add(partition)

    def revoked(self, partition: int) -> None:
        """Records that the partition is or may be revoked. Its records were flushed, or are delivered again."""
        self._owned.discard(partition)
        self._waiting.discard(partition)
        if partition in self._rebuilds:
            self._rebuilds[partition].cancelled.set()
        self._call_timeouts.on_revoked(partition)
        self._finalizer.on_revoked(partition)

    def tick(self, partitions: Partitions) -> None:
        """Advances rebuilds, clean-up and state expiry. Costs almost nothing if no work is due.

        Raises:
            SpoolError: The disk does not accept a journal.
            LogUnavailableError: The log cannot be read.
        """
        if self._rebuilds:
            self._end_rebuilds(partitions)
        if self._waiting:
            self._begin_rebuilds(partitions)
        if time.monotonic() >= self._orphan_cleaner.due:
            self._clean()
        self._state_reaper.tick(partitions, self._owned)

    def close(self) -> None:
        """Cancels all work in threads."""
        self._orphan_cleaner.cancelled.set()
        for rebuild in self._rebuilds.values():
            rebuild.cancelled.set()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _begin_rebuilds(self, partitions: Partitions) -> None:
        # A cancelled rebuild may still be writing the partition's journals.
        ready = self._waiting - self._rebuilds.keys()
        if not ready:
            return
        spooled: dict[int, set[PartId]] = {partition: set() for partition in ready}
        for identity in self._spool.parts():
            if identity.partition in ready:
                spooled[identity.partition].add(identity)
        logger.info("this recorder owns the partitions %s", sorted(self._owned))
        for partition in sorted(ready):
            self._waiting.discard(partition)
            self._begin_rebuild(partition, spooled[partition], partitions)

    def _begin_rebuild(self, partition: int, spooled: set[PartId], partitions: Partitions) -> None:
        parts: dict[PartId, UnrecordedPart] = {}
        by_call: dict[Call, list[PartId]] = {}
        for identity in spooled:
            by_call.setdefault(_call(identity), []).append(identity)
        for call, state in partitions.states(partition):
            for part in unrecorded(state):
                parts[PartId(*call, part.number, partition)] = part
            self._delete(identity for identity in by_call.pop(call, ()) if _is_recorded(identity, state))
        self._delete(identity for unknown in by_call.values() for identity in unknown if self._is_forgotten(identity))
        known: dict[PartId, int] = {}
        for identity, part in parts.items():
            offset = self._spool.known_offset(identity)
            if offset is not None and offset >= part.last_offset:
                known[identity] = offset
            else:
                self._spool.forget(identity)
        if len(known) == len(parts):
            self._resume_parts(parts)
            partitions.resume(partition)
            return
        partitions.pause(partition)
        cancelled = threading.Event()
        future = self._workers.submit(rebuild_journals, self._spool.root, parts, known, self._read_log, cancelled)
        self._rebuilds[partition] = _Rebuild(parts, future, cancelled)

    def _end_rebuilds(self, partitions: Partitions) -> None:
        for partition, rebuild in list(self._rebuilds.items()):
            if not rebuild.future.done():
                continue
            del self._rebuilds[partition]
            if rebuild.cancelled.is_set():
                continue
            for identity, offset in rebuild.future.result().items():
                if self._spool.known_offset(identity) is None:
                    self._spool.set_known_offset(identity, offset)
            self._resume_parts(rebuild.parts)
            partitions.resume(partition)

    def _resume_parts(self, parts: dict[PartId, UnrecordedPart]) -> None:
        for identity, part in parts.items():
            if part.closed:
                self._finalizer.submit(identity, self._spool.write(identity), part.last_offset)
            else:
                self._call_timeouts.touch(OpenCall(identity, part.carrier, part.last_offset, part.ended))
        if parts:
            logger.info("resumed %d parts of calls that are not recorded yet", len(parts))

    def _clean(self) -> None:
        """Deletes journals of other owners' partitions once they are recorded there."""
        cleaner = self._orphan_cleaner
        if cleaner.future is None:
            owned = frozenset(self._owned)
            cleaner.future = self._workers.submit(self._recorded_elsewhere, owned)
        elif cleaner.future.done():
            # A partition that was assigned again meanwhile takes care of its journals itself.
            self._delete(identity for identity in cleaner.future.result() if identity.partition not in self._owned)
            cleaner.future = None
            cleaner.due = time.monotonic() + self._cleaning_interval_s

    def _recorded_elsewhere(self, owned: frozenset[int]) -> list[PartId]:
        elsewhere: dict[int, list[PartId]] = {}
        for identity in self._spool.parts():
            if identity.partition not in owned:
                elsewhere.setdefault(identity.partition, []).append(identity)
        found: list[PartId] = []
        for partition, identities in elsewhere.items():
            try:
                states = self._lookup_states(
                    partition, {_call(one) for one in identities}, self._orphan_cleaner.cancelled
                )
            except LogUnavailableError as error:
                logger.warning("keeping %d journals of partition %d for now: %s", len(identities), partition, error)
                continue
            for one in identities:
                state = states.get(_call(one))
                if self._is_forgotten(one) if state is None else _is_recorded(one, state):
                    found.append(one)
        return found

    def _is_forgotten(self, identity: PartId) -> bool:
        """True if the journal of a call without a state is older than the time after which states are deleted.

        A newer journal may belong to a call whose state is not committed yet.
        """
        return self._spool.age_s(identity) > AFTER_S

    def _delete(self, identities: Iterator[PartId]) -> None:
        for identity in identities:
            if not self._finalizer.is_busy(identity):
                self._spool.delete(identity)


def _call(identity: PartId) -> Call:
    return identity.tenant, identity.call_id


def _is_recorded(identity: PartId, state: CallState) -> bool:
    return is_recorded(state, identity.part)
