"""Where a call lies on the log, also after partitions were added. Pure.

The recorder knows a call by its partition, so a call must end where it began. Hence gateways do not follow the number
of partitions a broker tells: they follow layouts, which `audiotext topics grow` announces on a topic of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.events import PartitionLayoutChanged

MEMORY_MS = 24 * 3_600_000
"""A call may come back, to whichever gateway, for so long after its first word: no carrier's call lasts longer."""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Layouts:
    """Numbers of partitions and from when on each holds for calls that begin (ms since the epoch), in this order."""

    history: tuple[tuple[int, int], ...]

    def current(self, now_ms: int) -> int:
        """How many partitions calls that begin now are spread over."""
        return [number for from_ms, number in self.history if from_ms <= now_ms][-1]

    def partition_for_new_call(self, call_id: str, now_ms: int) -> int:
        """The partition of a call that begins now."""
        return partition_of(call_id, self.current(now_ms))

    def candidate_partitions(self, call_id: str, now_ms: int) -> tuple[int, ...]:
        """Partitions on which the call can have begun, oldest first, each once."""
        ends = [from_ms for from_ms, _ in self.history[1:]]
        numbers = [
            number
            for (_, number), end_ms in zip(self.history, [*ends, None], strict=True)
            if end_ms is None or end_ms > now_ms - MEMORY_MS
        ]
        return tuple(dict.fromkeys(partition_of(call_id, number) for number in numbers))


def layouts_of(announced: Sequence[PartitionLayoutChanged], found: int) -> Layouts:
    """What was announced, in the log's order, makes of a topic that has `found` partitions.

    Without any it is as the topic was made. What is only being prepared does not hold yet, nor what is not there.
    """
    history = [(0, announced[0].before if announced else found)]
    for one in announced:
        if one.from_ms is not None and one.partitions <= found:
            history.append((one.from_ms, one.partitions))
    return Layouts(tuple(history))


def trusted(found: int, known: int, *, announced: bool) -> int:
    """How many partitions there are, by what a broker tells now and what is known (0: nothing).

    A broker that is catching up, or looking for a leader, tells of fewer, or none. More than before mean nothing as
    long as no layout was announced.
    """
    if not found or not known:
        return found or known
    return max(found, known) if announced else min(found, known)


def partition_of(call_id: str, partitions: int) -> int:
    """As the Java clients' partitioner, and ours (redpanda.client), has it."""
    return (murmur2(call_id.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """The 32-bit hash Kafka's clients place keys by."""
    hashed = _SEED ^ len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        word = (word ^ word >> 24) * _M & _MASK
        hashed = hashed * _M & _MASK ^ word
    if len(data) > whole:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return hashed ^ hashed >> 15
