"""Where calls lie before, while and after partitions are added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpanda.partition_layout import MEMORY_MS, Layouts, layouts_of, murmur2, partition_of, trusted
from schemas.events import PartitionLayoutChanged

T = 1_790_000_000_000
call_ids = st.text(min_size=1, max_size=40)


def announced(partitions: int, before: int, from_ms: int | None) -> PartitionLayoutChanged:
    """An announcement."""
    return PartitionLayoutChanged(
        event_id="e", call_id="", tenant="", occurred_at_ms=T, partitions=partitions, before=before, from_ms=from_ms
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_hash_is_that_of_kafkas_clients(key: str, value: int) -> None:
    """The test vectors of Kafka's own client. With another hash a new gateway would look for calls in wrong places."""
    assert murmur2(key.encode()) == value & 0xFFFFFFFF


@given(call_ids)
def test_nothing_changes_until_it_is_announced_that_it_does(call_id: str) -> None:
    """While partitions are only prepared, whatever the broker tells, calls lie where they lay; likewise where the
    partitions that were announced were never made."""
    old = partition_of(call_id, 2)
    for layouts in (
        layouts_of([announced(5, 2, None)], found=5),
        layouts_of([announced(5, 2, None), announced(5, 2, T)], found=2),
        layouts_of([], found=2),
    ):
        assert layouts.candidate_partitions(call_id, T) == (old,)
        assert layouts.partition_for_new_call(call_id, T) == old


@given(call_ids, st.integers(-MEMORY_MS + 1, MEMORY_MS - 1))
def test_both_places_are_looked_at_for_a_day(call_id: str, after_ms: int) -> None:
    """From the announcement on, for a day after it holds, a call may lie at either place, by whichever gateway's clock;
    one that begins is placed by its time. Looked at in one place only, a call that comes back would be split."""
    layouts = layouts_of([announced(5, 2, None), announced(5, 2, T)], found=5)
    assert layouts.candidate_partitions(call_id, T + after_ms) == tuple(
        dict.fromkeys((partition_of(call_id, 2), partition_of(call_id, 5)))
    )
    assert layouts.partition_for_new_call(call_id, T + after_ms) == partition_of(call_id, 5 if after_ms >= 0 else 2)


@pytest.mark.parametrize(
    ("found", "known", "announced", "number"),
    [
        (2, 0, False, 2),
        (5, 2, False, 2),  # added by a broker's own tool: calls stay where they are
        (1, 2, False, 1),  # made anew
        (0, 5, True, 5),
        (2, 5, True, 5),
        (5, 2, True, 5),
        (0, 0, False, 0),
    ],
)
def test_what_a_broker_tells_is_not_always_followed(found: int, known: int, announced: bool, number: int) -> None:
    """A broker that does not know of the new partitions yet, or of none, moves no call; nor do partitions that nobody
    announced."""
    assert trusted(found, known, announced=announced) == number


def test_what_is_over_is_not_looked_at() -> None:
    """A day later nobody looks at the old places any more: no call of then goes on."""
    layouts = Layouts(((0, 2), (T, 4), (T + 2 * MEMORY_MS, 8)))
    for call_id in map(str, range(50)):
        assert set(layouts.candidate_partitions(call_id, T + 3 * MEMORY_MS + 1)) == {partition_of(call_id, 8)}
