"""Which offsets may be committed when work finishes out of order. Pure bookkeeping, no Kafka.

A committed offset says "everything before this is done". With many records in flight the last one finished is not
the answer: the first one *unfinished* is. A record that is finished behind a hole waits here, uncommitted; a crash
delivers it again, which is harmless since every effect is idempotent.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class PartitionOffsets:
    """One partition's records in flight, from assignment to revocation."""

    _pending: set[int] = field(default_factory=set)
    _highest: int = -1  # highest offset ever started
    _committed: int = -1  # last position handed out by `take_committable`

    def start(self, offset: int) -> bool:
        """A record was received. False if this partition has seen it already (a redelivery within the assignment)."""
        if offset <= self._highest:
            return False
        self._highest = offset
        self._pending.add(offset)
        return True

    def done(self, offset: int) -> None:
        """A record's effects are all durable."""
        self._pending.discard(offset)

    @property
    def in_flight(self) -> int:
        """How many records are started and not done."""
        return len(self._pending)

    @property
    def position(self) -> int:
        """The offset to commit: the first unfinished record, or one past the last; -1 before any record."""
        if self._pending:
            return min(self._pending)
        return self._highest + 1 if self._highest >= 0 else -1

    def take_committable(self) -> int | None:
        """The position to commit if it moved since the last call, else None."""
        position = self.position
        if position <= max(self._committed, 0):
            return None
        self._committed = position
        return position

    def not_committed(self) -> None:
        """The log did not take the last position: it is handed out again, even if nothing more gets done."""
        self._committed = -1


@dataclass(slots=True)
class OffsetTracker:
    """The partitions assigned to this process, by (topic, partition).

    Every assignment gets a new generation: work that was started under an earlier one finishes without effect on the
    offsets, since the partition's new owner does it again.
    """

    _partitions: dict[tuple[str, int], PartitionOffsets] = field(default_factory=dict)
    _generations: dict[tuple[str, int], int] = field(default_factory=dict)

    def assign(self, topic: str, partition: int) -> None:
        """The partition is ours from now on."""
        self._partitions[topic, partition] = PartitionOffsets()
        self._generations[topic, partition] = self._generations.get((topic, partition), 0) + 1

    def revoke(self, topic: str, partition: int) -> int | None:
        """The partition is no longer ours. Gives the position still to commit, if any."""
        offsets = self._partitions.pop((topic, partition), None)
        return offsets.take_committable() if offsets else None

    def start(self, topic: str, partition: int, offset: int) -> int | None:
        """A record was received. Gives the generation to name in `done`, or None if it must not be worked on."""
        offsets = self._partitions.get((topic, partition))
        if offsets is None or not offsets.start(offset):
            return None
        return self._generations[topic, partition]

    def done(self, topic: str, partition: int, offset: int, generation: int) -> None:
        """A record's effects are all durable. Without effect if its generation is over."""
        if self.is_current(topic, partition, generation):
            self._partitions[topic, partition].done(offset)

    def is_current(self, topic: str, partition: int, generation: int) -> bool:
        """Whether the assignment under which a record was received still stands."""
        return (topic, partition) in self._partitions and self._generations[topic, partition] == generation

    def in_flight(self, topic: str) -> int:
        """Records of a topic started and not done."""
        return sum(offsets.in_flight for (name, _), offsets in self._partitions.items() if name == topic)

    def take_committable(self) -> dict[tuple[str, int], int]:
        """Positions that moved since the last call."""
        found = {key: offsets.take_committable() for key, offsets in self._partitions.items()}
        return {key: position for key, position in found.items() if position is not None}

    def not_committed(self, topic: str, partition: int) -> None:
        """The log did not take the position that was handed out last."""
        offsets = self._partitions.get((topic, partition))
        if offsets is not None:
            offsets.not_committed()
