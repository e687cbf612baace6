"""The rate limiter for attempts."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from pipelines.runtime.rate_limiter import SlidingWindowLimiter
from tests.support.clocks import ManualClock


@given(per_minute=st.integers(1, 5), pauses=st.lists(st.floats(0, 100), max_size=40))
async def test_no_minute_has_more_than_allowed(per_minute: int, pauses: list[float]) -> None:
    """Starts attempts in bursts and after pauses of any length.

    No period of 60 s may have more starts than allowed: a provider that counts them would reject the others.
    """
    clock = ManualClock()
    limit = SlidingWindowLimiter(per_minute, clock)
    begun = []
    for pause in pauses:
        clock.at_s += pause
        await limit.acquire()
        begun.append(clock.at_s)

    for n, start in enumerate(begun):
        assert bisect_left(begun, start + 59.999) - n <= per_minute


async def test_starts_within_the_limit_do_not_wait() -> None:
    """Starts four attempts with a limit of three per minute.

    The first three must start at once, the fourth a minute after the first. Evenly spread starts would delay a single
    call without need.
    """
    clock = ManualClock()
    limit = SlidingWindowLimiter(3, clock)
    took = []
    for _ in range(4):
        await limit.acquire()
        took.append(clock.at_s - 1_000)

    assert took == [0, 0, 0, 60]


async def test_without_a_limit_no_start_waits() -> None:
    """Starts attempts with the limit None. None of them may wait."""
    clock = ManualClock()
    limit = SlidingWindowLimiter(None, clock)
    for _ in range(1_000):
        await limit.acquire()

    assert clock.at_s == 1_000
