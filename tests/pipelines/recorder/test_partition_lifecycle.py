"""Partitions are assigned and revoked. The log and the states are stand-ins; the real ones are in two other modules.

See test_takeover.py and test_group.py.
"""

import queue
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.recorder import finalizer
from pipelines.recorder.call_timeout import CallTimeouts
from pipelines.recorder.finalizer import RecordingFinalizer
from pipelines.recorder.journal import PartId
from pipelines.recorder.journal_sink import DecidedRecord, JournalBehindError, JournalSink
from pipelines.recorder.partition_lifecycle import PartitionLifecycle
from pipelines.recorder.spool import Spool
from pipelines.recorder.state_codec import Call
from pipelines.recorder.state_expiry import StateReaper
from pipelines.recorder.state_machine import Action, CallState, OpenPart, Transition
from pipelines.recorder.streams import Streams
from redpanda.client import LogUnavailableError
from redpanda.range_reader import OffsetRange
from schemas.events import ObjectRef
from schemas.media import MediaRecord, RecordType
from sinks.object_store import ObjectStoreError
from tests.support.failing_stores import Events, Faults, Store
from tests.support.media_records import call
from tests.support.waiting import wait_for

PARTITION = 3
SOURCE = call("CA", 1000)
RECORDS = SOURCE.records()
PART = PartId("acme", "CA", 1, PARTITION)
OPEN = CallState(1, OpenPart(1, 0, 3, "twilio", Streams({"MZ1": False})))
CLOSED = CallState(1, None, {1: (0, 6)})
RECORDED = CallState(1)
CLOSE = SOURCE.record(RecordType.CLOSE, stream_id="", seen=5, part=1, detail="ended")
LOG = [*RECORDS, CLOSE]


@dataclass
class Setting:
    """One recorder's ownership, and a world of stand-ins around it."""

    root: Path
    states_here: dict[Call, CallState] = field(default_factory=dict)
    states_elsewhere: dict[Call, CallState] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    log_goes_on: threading.Event = field(default_factory=threading.Event)
    away: bool = False
    readers: int = 0

    def __post_init__(self) -> None:
        self.log_goes_on.set()
        self.told: queue.SimpleQueue[MediaRecord] = queue.SimpleQueue()
        self.spool = Spool(self.root)
        self.closer = CallTimeouts(grace_ms=10, idle_timeout_ms=20, propose=lambda record, _: self.told.put(record))
        faults = Faults()
        faults.failed, faults._fail_at = 4, 1000
        self.store = Store(faults)
        self.finisher = RecordingFinalizer(
            store=self.store, events=Events(faults), put_record=lambda record, _: self.told.put(record), workers=1
        )
        self.ownership = PartitionLifecycle(
            spool=self.spool,
            call_timeouts=self.closer,
            finalizer=self.finisher,
            read_log=self.read,
            lookup_states=self.lookup,
            state_reaper=StateReaper(lambda record, _: self.told.put(record)),
            cleaning_interval_s=0.02,
        )
        self.closer.start()
        self.finisher.start()

    def read(
        self, stretch: OffsetRange, _calls: Collection[bytes], _cancelled: threading.Event
    ) -> Iterator[tuple[int, MediaRecord]]:
        # Slow to notice that it is cancelled, as a log that hangs is.
        self.readers += 1
        assert self.readers == 1, "two rebuilds write the same journals"
        for offset in range(stretch.first_offset, stretch.end_offset or 0):
            assert self.log_goes_on.wait(20)
            yield offset, LOG[offset]
        self.readers -= 1

    def lookup(self, _partition: int, calls: Collection[Call], _cancelled: threading.Event) -> dict[Call, CallState]:
        if self.away:
            raise LogUnavailableError("the log is away")
        return {one: state for one, state in self.states_elsewhere.items() if one in calls}

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        return iter(self.states_here.items())

    def first_offset(self, partition: int) -> int | None:
        return 0

    def pause(self, partition: int) -> None:
        self.paused.add(partition)

    def resume(self, partition: int) -> None:
        self.paused.discard(partition)

    def assign(self) -> None:
        """Assigns the partition, which Quix has paused."""
        self.pause(PARTITION)
        self.ownership.assigned(PARTITION)

    def until_resumed(self) -> None:
        def look() -> bool | None:
            self.ownership.tick(self)
            return PARTITION not in self.paused or None

        wait_for(look, "the partition is read")

    def ticks(self, number: int = 10) -> None:
        """Lets time pass, and more than one round of the cleaner."""
        for _ in range(number):
            self.ownership.tick(self)
            threading.Event().wait(0.02)

    def journal(self, records: list[MediaRecord]) -> None:
        for offset, record in enumerate(records):
            self.spool.append(PART, record, offset)
        self.spool.flush()


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    yield made
    made.log_goes_on.set()
    made.ownership.close()
    made.closer.stop()
    made.finisher.stop()


@pytest.mark.parametrize("on_disk", [0, 2, 4])
def test_an_open_call_is_rebuilt_and_gets_its_timeout(setting: Setting, on_disk: int) -> None:
    """Assigns a partition with an open call.

    Its records must be in the journal before the partition is read, and its time-out must run although no record
    arrives.
    """
    setting.journal(RECORDS[:on_disk])
    setting.states_here = {("acme", "CA"): OPEN, ("acme", "done"): RECORDED}
    setting.assign()
    setting.until_resumed()
    assert setting.spool.last_offset(PART) == 3
    proposal = setting.told.get(timeout=10)
    assert (proposal.type, proposal.seen, proposal.carrier) == (RecordType.CLOSE, 3, "twilio")


def test_a_closed_call_is_rebuilt_and_then_finished(setting: Setting) -> None:
    """Assigns a partition with a closed call. It must be finished, although no close record arrives again."""
    setting.states_here = {("acme", "CA"): CLOSED}
    setting.assign()
    setting.until_resumed()
    assert setting.told.get(timeout=10).type is RecordType.RECORDED


def test_nothing_of_a_partition_is_read_before_its_rebuild_is_done(setting: Setting) -> None:
    """Rebuilds a partition. It must stay paused, without blocking the thread that polls.

    A new record before the missing ones would make an incomplete journal look complete.
    """
    setting.states_here = {("acme", "CA"): OPEN}
    setting.log_goes_on.clear()
    setting.assign()
    setting.ticks()
    assert PARTITION in setting.paused
    setting.log_goes_on.set()
    setting.until_resumed()


def test_a_record_after_missing_ones_ends_the_recorder(setting: Setting) -> None:
    """Appends a record to a journal that lacks earlier ones. The recorder must end instead of losing them."""
    effects = JournalSink(spool=setting.spool, call_timeouts=setting.closer, finalizer=setting.finisher)
    late = DecidedRecord(RECORDS[4], Transition(Action.APPEND, 1, expected_offset=3))
    with pytest.raises(JournalBehindError, match="start the recorder again"):
        effects.add(late, b"CA", 0, [], "call.media", PARTITION, 4)


def test_a_partition_returns_during_its_rebuild(setting: Setting) -> None:
    """Revokes and assigns a partition during its rebuild.

    The next rebuild must wait until the old one writes no more.
    """
    setting.states_here = {("acme", "CA"): OPEN}
    setting.log_goes_on.clear()
    setting.assign()
    setting.ticks(2)
    setting.ownership.revoked(PARTITION)
    setting.assign()
    setting.ticks(3)
    assert PARTITION in setting.paused
    setting.log_goes_on.set()
    setting.until_resumed()
    assert setting.spool.last_offset(PART) == 3
    assert setting.told.get(timeout=10).seen == 3


def test_a_revoked_partition_is_dropped(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revokes a partition. Its open call must not be closed, and its failed upload must not be tried again."""
    monkeypatch.setattr(finalizer, "_FIRST_DELAY_S", 0.01)
    attempts = queue.SimpleQueue[str]()

    def fail(key: str, *_: object) -> ObjectRef:
        attempts.put(key)
        raise ObjectStoreError("the store is away")

    monkeypatch.setattr(setting.store, "put", fail)
    setting.closer.stop()
    setting.journal(LOG)
    setting.states_here = {("acme", "CA"): CLOSED, ("acme", "CB"): OPEN}
    setting.assign()
    setting.until_resumed()
    assert attempts.get(timeout=10)
    assert setting.closer._open
    setting.ownership.revoked(PARTITION)
    wait_for(lambda: not setting.finisher.is_busy(PART) or None, "the part is let go")
    assert not setting.closer._open


@pytest.mark.parametrize(
    ("elsewhere", "stays"),
    [({}, True), ({("acme", "CA"): OPEN}, True), ({("acme", "CA"): CLOSED}, True), ({("acme", "CA"): RECORDED}, False)],
)
def test_the_cleaner_deletes_only_what_is_recorded_elsewhere(
    setting: Setting, elsewhere: dict[Call, CallState], stays: bool
) -> None:
    """Has journals of another owner's partition: recorded, open, closed and unknown.

    Only the recorded one may be deleted. Any other may be the last copy.
    """
    setting.journal(LOG)
    setting.states_elsewhere = elsewhere
    setting.ticks()
    assert (setting.spool.directory_of(PART) / "journal").exists() == stays


def test_the_cleaner_deletes_nothing_without_the_states(setting: Setting) -> None:
    """Makes the log unreachable. All journals must stay, and the cleaner must try again later."""
    setting.journal(LOG)
    setting.states_elsewhere, setting.away = {("acme", "CA"): RECORDED}, True
    setting.ticks()
    assert (setting.spool.directory_of(PART) / "journal").exists()
    setting.away = False
    setting.ticks()
    assert not (setting.spool.directory_of(PART) / "journal").exists()


@pytest.mark.parametrize(("state", "stays"), [(RECORDED, False), (OPEN, True), (None, True)])
def test_orphans_of_owned_partitions_are_deleted_too(setting: Setting, state: CallState | None, stays: bool) -> None:
    """Leaves a recorded part after a crash between commit and deletion, and a part without a state.

    Both must be deleted: the second was not committed, so its records are delivered again.
    """
    setting.journal(RECORDS[:4])
    setting.states_here = {("acme", "CA"): state} if state else {}
    setting.assign()
    setting.until_resumed()
    assert setting.spool.directory_of(PART).exists() == stays
