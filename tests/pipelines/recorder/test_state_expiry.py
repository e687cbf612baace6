"""What the recorder knows of finished calls does not stay for ever."""

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
    """The calls that are proposed to be forgotten, each with its partition."""
    proposed: list[tuple[str, int]] = []

    def propose(record: MediaRecord, partition: int) -> None:
        assert record.type is RecordType.FORGET
        proposed.append((record.call_id, partition))

    forgetter = StateReaper(propose, every_s=0)
    for _ in range(ticks):
        forgetter.tick(states, owned)
    return proposed


def test_only_what_is_over_for_good_is_forgotten() -> None:
    """A call that is open, not recorded yet, younger than a week, or still on the log, is kept: a late stream of it
    would become part 1 again and overwrite the recording there is."""
    states = {
        ("acme", "over"): CallState(1, last=999, at_ms=LONG_AGO_MS),
        ("acme", "open"): CallState(1, OpenPart(1, 0, 9, {}, "twilio"), last=9, at_ms=LONG_AGO_MS),
        ("acme", "not recorded"): CallState(1, None, {1: (0, 9)}, last=9, at_ms=LONG_AGO_MS),
        ("acme", "young"): CallState(1, last=9, at_ms=LONG_AGO_MS + 86_400_000),
        ("acme", "on the log"): CallState(1, last=1_000, at_ms=LONG_AGO_MS),
    }
    assert set(forgotten(States({0: states}), {0})) == {("over", 0)}


def test_every_partition_is_walked_through_whatever_its_size() -> None:
    """More calls than are looked at at once, on three partitions, one of which is another recorder's: all of the others
    are found. What is left out once would be left out each time, and the state would grow."""
    many: dict[Call, CallState] = {
        ("acme", f"CA{number:04}"): CallState(1, last=1, at_ms=LONG_AGO_MS) for number in range(450)
    }
    states = States({0: many, 1: many, 2: many})
    assert set(forgotten(states, {0, 2}, ticks=6)) == {(call, n) for _, call in many for n in (0, 2)}


def test_nothing_is_forgotten_while_the_log_does_not_say_where_it_begins() -> None:
    """Whether a call is still on it is not known then."""
    assert forgotten(States({0: {("acme", "over"): CallState(1, last=9, at_ms=LONG_AGO_MS)}}, begins=None), {0}) == []
