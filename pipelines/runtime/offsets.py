"""Tracks which offsets may be committed when work finishes out of order. Pure, without Kafka.

A committed offset means "everything before this is done". With many records in flight, the offset to commit is that of
the first *unfinished* record, not the one after the last finished record. A finished record behind an unfinished one
stays uncommitted; after a crash it is delivered again, which is harmless because every effect is idempotent.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class PartitionOffsets:
    """The records of one partition that are in flight, from assignment to revocation."""

    _pending: set[int] = field(default_factory=set)
    _highest: int = -1  # highest offset ever started
    _committed: int = -1  # last position that `take_committable` returned

    def start(self, offset: int) -> bool:
        """Records that a record was received.

        Returns False if it was received before (a redelivery within the assignment).
        """
        if offset <= self._highest:
            return False
        self._highest = offset
        self._pending.add(offset)
        return True

    def done(self, offset: int) -> None:
        """Records that all effects of a record are durable."""
        self._pending.discard(offset)

    @property
    def in_flight(self) -> int:
        """Number of records that are started and not done."""
        return len(self._pending)

    @property
    def position(self) -> int:
        """Offset to commit: that of the first unfinished record, or one past the last; -1 before any record."""
        if self._pending:
            return min(self._pending)
        return self._highest + 1 if self._highest >= 0 else -1

    def take_committable(self) -> int | None:
        """Returns the position to commit if it moved since the last invocation, else None."""
        position = self.position
        if position <= max(self._committed, 0):
            return None
        self._committed = position
        return position

    def commit_failed(self) -> None:
        """Records that the last commit failed: its position is returned again, even if no more work gets done."""
        self._committed = -1


@dataclass(slots=True)
class OffsetTracker:
    """The partitions assigned to this process, by (topic, partition).

    Every assignment gets a new generation. Work that started under an earlier generation has no effect on the offsets,
    because the partition's new owner does it again.
    """

    _partitions: dict[tuple[str, int], PartitionOffsets] = field(default_factory=dict)
    _generations: dict[tuple[str, int], int] = field(default_factory=dict)

    def assign(self, topic: str, partition: int) -> None:
        """Records that the partition is assigned to this process."""
        self._partitions[topic, partition] = PartitionOffsets()
        self._generations[topic, partition] = self._generations.get((topic, partition), 0) + 1

    def revoke(self, topic: str, partition: int) -> int | None:
        """Records that the partition is revoked. Returns the position still to commit, if any."""
        offsets = self._partitions.pop((topic, partition), None)
        return offsets.take_committable() if offsets else None

    def start(self, topic: str, partition: int, offset: int) -> int | None:
        """Records that a record was received.

        Returns the generation to pass to `done`, or None if the record must not be processed.
        """
        offsets = self._partitions.get((topic, partition))
        if offsets is None or not offsets.start(offset):
            return None
        return self._generations[topic, partition]

    def done(self, topic: str, partition: int, offset: int, generation: int) -> None:
        """Records that all effects of a record are durable. Does nothing if its generation is over."""
        if self.is_current(topic, partition, generation):
            self._partitions[topic, partition].done(offset)

    def is_current(self, topic: str, partition: int, generation: int) -> bool:
        """True if the assignment under which a record was received is still in force."""
        return (topic, partition) in self._partitions and self._generations[topic, partition] == generation

    def in_flight(self, topic: str) -> int:
        """Returns the number of records of a topic that are started and not done."""
        return sum(offsets.in_flight for (name, _), offsets in self._partitions.items() if name == topic)

    def take_committable(self) -> dict[tuple[str, int], int]:
        """Returns the positions that moved since the last invocation."""
        found = {key: offsets.take_committable() for key, offsets in self._partitions.items()}
        return {key: position for key, position in found.items() if position is not None}

    def commit_failed(self, topic: str, partition: int) -> None:
        """Records that the last commit of the partition failed."""
        offsets = self._partitions.get((topic, partition))
        if offsets is not None:
            offsets.commit_failed()
