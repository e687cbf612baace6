"""Which partitions are this recorder's, and what has to be done when that changes.

A partition that comes may bring calls of which no record will ever come again: their journals are completed from the
log, then they are watched or finished as if they had always been here, and only then is the partition read. Of a
partition that goes nothing is watched or finished any more; its journals stay until its new owner has recorded them.
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
from pipelines.recorder.journal_rebuild import Read, rebuild_journals
from pipelines.recorder.spool import Spool
from pipelines.recorder.state_codec import Call
from pipelines.recorder.state_expiry import AFTER_S, StateReaper
from pipelines.recorder.state_machine import CallState, UnrecordedPart, is_recorded, unrecorded
from redpanda.client import LogUnavailableError

log = logging.getLogger(__name__)

_REBUILDS = 2  # at the same time: each holds some megabytes of the log
_JANITOR_S = 60.0

Lookup = Callable[[int, Collection[Call], threading.Event], dict[Call, CallState]]
"""partition, calls, cancelled → what the partition's owner knows of them"""


class Partitions(Protocol):
    """What can be done with the partitions this process is assigned."""

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        """Every call's state, as of the last commit, by key; those after one only."""

    def begins(self, partition: int) -> int | None:
        """The earliest offset the log has of it; None if it does not say now."""

    def pause(self, partition: int) -> None:
        """Reads no records of it from now on."""

    def resume(self, partition: int) -> None:
        """Reads it again."""


@dataclass(slots=True)
class _Rebuild:
    """A partition's journals being completed in a thread."""

    parts: dict[PartId, UnrecordedPart]
    future: Future[dict[PartId, int]]
    cancelled: threading.Event


@dataclass(slots=True)
class _OrphanCleaner:
    """Journals of partitions that are elsewhere, and when to ask again whether they are recorded there."""

    due: float = 0.0
    future: Future[list[PartId]] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class PartitionLifecycle:
    """Belongs to the thread that reads the log, which says what is assigned and revoked and calls `tick` between two
    records."""

    def __init__(
        self,
        *,
        spool: Spool,
        closer: CallTimeouts,
        finisher: RecordingFinalizer,
        read_log: Read,
        lookup: Lookup,
        forgetter: StateReaper,
        janitor_s: float = _JANITOR_S,
    ) -> None:
        self._spool = spool
        self._closer = closer
        self._finisher = finisher
        self._read_log = read_log
        self._lookup = lookup
        self._forgetter = forgetter
        self._owned: set[int] = set()
        self._waiting: set[int] = set()  # owned, and nothing is known of them yet
        self._rebuilds: dict[int, _Rebuild] = {}
        self._workers = ThreadPoolExecutor(_REBUILDS + 1, thread_name_prefix="ownership")
        self._janitor_s = janitor_s
        self._janitor = _OrphanCleaner(time.monotonic() + janitor_s)

    @property
    def rebuilding(self) -> int:
        """How many partitions are not read yet."""
        return len(self._waiting | self._rebuilds.keys())

    def assigned(self, partition: int) -> None:
        """The partition is ours. It must be paused until `tick` resumes it."""
        self._owned.add(partition)
        self._waiting.add(partition)

    def revoked(self, partition: int) -> None:
        """The partition is not ours any more, or may not be. Everything read of it was flushed, or comes again."""
        self._owned.discard(partition)
        self._waiting.discard(partition)
        if partition in self._rebuilds:
            self._rebuilds[partition].cancelled.set()
        self._closer.on_revoked(partition)
        self._finisher.on_revoked(partition)

    def tick(self, partitions: Partitions) -> None:
        """Goes on with what is to be done. Costs next to nothing if that is nothing. Raises SpoolError,
        LogUnavailableError."""
        if self._rebuilds:
            self._end_rebuilds(partitions)
        if self._waiting:
            self._begin_rebuilds(partitions)
        if time.monotonic() >= self._janitor.due:
            self._clean()
        self._forgetter.tick(partitions, self._owned)

    def close(self) -> None:
        """Lets go of everything."""
        self._janitor.cancelled.set()
        for rebuild in self._rebuilds.values():
            rebuild.cancelled.set()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _begin_rebuilds(self, partitions: Partitions) -> None:
        # A cancelled rebuild may still be writing the partition's journals.
        ready = self._waiting - self._rebuilds.keys()
        if not ready:
            return
        here: dict[int, set[PartId]] = {partition: set() for partition in ready}
        for identity in self._spool.parts():
            if identity.partition in ready:
                here[identity.partition].add(identity)
        log.info("partitions %s are this recorder's", sorted(self._owned))
        for partition in sorted(ready):
            self._waiting.discard(partition)
            self._begin(partition, here[partition], partitions)

    def _begin(self, partition: int, here: set[PartId], partitions: Partitions) -> None:
        parts: dict[PartId, UnrecordedPart] = {}
        by_call: dict[Call, list[PartId]] = {}
        for identity in here:
            by_call.setdefault(_call(identity), []).append(identity)
        for call, state in partitions.states(partition):
            for part in unrecorded(state):
                parts[PartId(*call, part.number, partition)] = part
            self._delete(identity for identity in by_call.pop(call, ()) if _recorded(identity, state))
        self._delete(identity for unknown in by_call.values() for identity in unknown if self._forgotten(identity))
        known: dict[PartId, int] = {}
        for identity, part in parts.items():
            offset = self._spool.known_offset(identity)
            if offset is not None and offset >= part.last_offset:
                known[identity] = offset
            else:
                self._spool.forget(identity)
        if len(known) == len(parts):
            self._take_up(parts)
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
            self._take_up(rebuild.parts)
            partitions.resume(partition)

    def _take_up(self, parts: dict[PartId, UnrecordedPart]) -> None:
        for identity, part in parts.items():
            if part.closed:
                self._finisher.submit(identity, self._spool.write(identity))
            else:
                self._closer.touch(OpenCall(identity, part.carrier, part.last_offset, part.ended))
        if parts:
            log.info("took up %d calls that are not recorded yet", len(parts))

    def _clean(self) -> None:
        """Journals of partitions that are elsewhere go once they are recorded there."""
        janitor = self._janitor
        if janitor.future is None:
            owned = frozenset(self._owned)
            janitor.future = self._workers.submit(self._recorded_elsewhere, owned)
        elif janitor.future.done():
            # The partition may have come back meanwhile; then its journals are looked after anyway.
            self._delete(identity for identity in janitor.future.result() if identity.partition not in self._owned)
            janitor.future = None
            janitor.due = time.monotonic() + self._janitor_s

    def _recorded_elsewhere(self, owned: frozenset[int]) -> list[PartId]:
        strangers: dict[int, list[PartId]] = {}
        for identity in self._spool.parts():
            if identity.partition not in owned:
                strangers.setdefault(identity.partition, []).append(identity)
        found: list[PartId] = []
        for partition, identities in strangers.items():
            try:
                states = self._lookup(partition, {_call(one) for one in identities}, self._janitor.cancelled)
            except LogUnavailableError as error:
                log.warning("%d journals of partition %d are kept for now: %s", len(identities), partition, error)
                continue
            for one in identities:
                state = states.get(_call(one))
                if self._forgotten(one) if state is None else _recorded(one, state):
                    found.append(one)
        return found

    def _forgotten(self, identity: PartId) -> bool:
        """Whether the journal, of a call nobody knows, is too old for the call to be one that nobody knows yet."""
        return self._spool.age_s(identity) > AFTER_S

    def _delete(self, identities: Iterator[PartId]) -> None:
        for identity in identities:
            if not self._finisher.busy(identity):
                self._spool.delete(identity)


def _call(identity: PartId) -> Call:
    return identity.tenant, identity.call_id


def _recorded(identity: PartId, state: CallState) -> bool:
    return is_recorded(state, identity.part)
