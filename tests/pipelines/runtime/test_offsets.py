"""Offset bookkeeping of the slow stages: never past unfinished work, never losing any."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pipelines.runtime.offsets import OffsetTracker

TOPIC = "t"


class OffsetMachine(RuleBasedStateMachine):
    """A partition with 40 records and a consumer that is killed, rebalanced and finishes work in any order.

    The model: `finished` are the records whose effects are durable (they outlive a crash), `committed` is what the
    broker knows. If the tracker committed one offset too far, the record behind it would never be worked on again:
    that is a call without a transcript.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished: set[int] = set()
        self.committed = 0
        self._begin()

    def _begin(self) -> None:
        self.tracker = OffsetTracker()
        self.tracker.assign(TOPIC, 0)
        self.next = self.committed

    work: Bundle[tuple[OffsetTracker, int, int]] = Bundle("work")

    @rule(target=work, skip=st.integers(0, 2))
    def receive(self, skip: int) -> tuple[OffsetTracker, int, int]:
        """The next record arrives; offsets may have holes, as in a compacted or transactional log."""
        offset = self.next + skip
        for hole in range(self.next, offset):
            self.finished.add(hole)  # there is no such record: nothing to do for it
        self.next = offset + 1
        generation = self.tracker.start(TOPIC, 0, offset)
        assert generation is not None
        return self.tracker, offset, generation

    @rule(job=consumes(work))
    def finish(self, job: tuple[OffsetTracker, int, int]) -> None:
        """A job ends, perhaps long after its assignment or its process did."""
        tracker, offset, generation = job
        self.finished.add(offset)
        tracker.done(TOPIC, 0, offset, generation)

    @rule(job=work)
    def deliver_again(self, job: tuple[OffsetTracker, int, int]) -> None:
        """A record the current assignment has seen is not worked on a second time."""
        tracker, offset, _ = job
        if tracker is self.tracker and offset < self.next and self.committed <= offset:
            assert self.tracker.start(TOPIC, 0, min(offset, self.next - 1)) is None

    @rule()
    def commit(self) -> None:
        """The periodic commit."""
        for position in self.tracker.take_committable().values():
            self.committed = position

    @rule()
    def commit_refused(self) -> None:
        """The log does not take the periodic commit: the next one says the same, though nothing more got done."""
        refused = self.tracker.take_committable()
        for topic, partition in refused:
            self.tracker.commit_failed(topic, partition)
        assert self.tracker.take_committable() == refused
        for position in refused.values():
            self.committed = position

    @rule()
    def crash(self) -> None:
        """The process dies; another one starts at the committed offset."""
        self._begin()

    @rule()
    def rebalance(self) -> None:
        """The partition goes away, with a last commit, and comes back."""
        position = self.tracker.revoke(TOPIC, 0)
        if position is not None:
            self.committed = position
        self.tracker.assign(TOPIC, 0)
        self.next = self.committed

    @invariant()
    def nothing_unfinished_is_committed(self) -> None:
        """Every record before the committed offset is finished."""
        assert all(offset in self.finished for offset in range(self.committed))


OffsetMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestOffsets = OffsetMachine.TestCase


def test_a_hole_holds_the_commit_back_and_its_end_releases_all() -> None:
    """Records 5, 6, 7 are in flight; 7 and 6 finish first. Nothing may be committed until 5 is done; then 8 is."""
    tracker = OffsetTracker()
    tracker.assign(TOPIC, 0)
    generation = tracker.start(TOPIC, 0, 5)
    assert generation is not None
    for offset in (6, 7):
        tracker.start(TOPIC, 0, offset)
    tracker.take_committable()
    for offset in (7, 6):
        tracker.done(TOPIC, 0, offset, generation)
    assert tracker.take_committable() == {}
    tracker.done(TOPIC, 0, 5, generation)
    assert tracker.take_committable() == {(TOPIC, 0): 8}


def test_work_of_an_earlier_assignment_moves_nothing() -> None:
    """A job started before a rebalance ends after it. The partition came back and the record with it, so the old
    job's end must not commit past the new one."""
    tracker = OffsetTracker()
    tracker.assign(TOPIC, 0)
    old = tracker.start(TOPIC, 0, 3)
    tracker.revoke(TOPIC, 0)
    tracker.assign(TOPIC, 0)
    new = tracker.start(TOPIC, 0, 3)
    assert old is not None
    assert new is not None
    tracker.take_committable()
    tracker.done(TOPIC, 0, 3, old)
    assert tracker.take_committable() == {}
    tracker.done(TOPIC, 0, 3, new)
    assert tracker.take_committable() == {(TOPIC, 0): 4}
