"""The deletion of finished calls' states."""

import time
from collections.abc import Iterator

from pipelines.recorder.state_codec import Call
from pipelines.recorder.state_expiry import AFTER_S, StateReaper
from pipelines.recorder.state_machine import CallState, OpenPart
from schemas.media import MediaRecord, RecordType

NOW_MS = time.time_ns() // 1_000_000
LONG_AGO_MS = NOW_MS - int(AFTER_S * 1000) - 1000


class States:
    """One recorder's states, by partition, and where the log begins."""

    def __init__(self, states: dict[int, dict[Call, CallState]], begins: int | None = 1_000) -> None:
        self._states = states
        self._begins = begins

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        found = sorted(self._states[partition].items())
        return iter([one for one in found if after is None or one[0] > after])

    def first_offset(self, partition: int) -> int | None:
        return self._begins


def forgotten(states: States, owned: set[int], ticks: int = 20) -> list[tuple[str, int]]:
    """Returns the calls that are proposed for deletion, each with its partition."""
    proposed: list[tuple[str, int]] = []

    def propose(record: MediaRecord, partition: int) -> None:
        assert record.type is RecordType.FORGET
        proposed.append((record.call_id, partition))

    forgetter = StateReaper(propose, every_s=0)
    for _ in range(ticks):
        forgetter.tick(states, owned)
    return proposed


def test_only_finished_calls_are_deleted() -> None:
    """Checks calls that are open, not recorded yet, younger than a week, or still on the log.

    Their states must stay: a late stream would become part 1 again and overwrite the recording.
    """
    states = {
        ("acme", "over"): CallState(1, last=999, at_ms=LONG_AGO_MS),
        ("acme", "open"): CallState(1, OpenPart(1, 0, 9, "twilio"), last=9, at_ms=LONG_AGO_MS),
        ("acme", "not recorded"): CallState(1, None, {1: (0, 9)}, last=9, at_ms=LONG_AGO_MS),
        ("acme", "young"): CallState(1, last=9, at_ms=LONG_AGO_MS + 86_400_000),
        ("acme", "on the log"): CallState(1, last=1_000, at_ms=LONG_AGO_MS),
    }
    assert set(forgotten(States({0: states}), {0})) == {("over", 0)}


def test_every_owned_partition_is_checked_completely() -> None:
    """Checks three partitions with more calls than one step handles; another recorder owns one of them.

    All calls of the other two must be found. Otherwise their states would grow without end.
    """
    many: dict[Call, CallState] = {
        ("acme", f"CA{number:04}"): CallState(1, last=1, at_ms=LONG_AGO_MS) for number in range(450)
    }
    states = States({0: many, 1: many, 2: many})
    assert set(forgotten(states, {0, 2}, ticks=6)) == {(call, n) for _, call in many for n in (0, 2)}


def test_no_state_is_deleted_while_the_first_offset_is_unknown() -> None:
    """Checks a partition whose first offset is unknown. The log may still have the calls, so their states must stay."""
    assert forgotten(States({0: {("acme", "over"): CallState(1, last=9, at_ms=LONG_AGO_MS)}}, begins=None), {0}) == []
