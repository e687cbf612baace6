"""The limit of attempts per minute."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from pipelines.runtime.rate_limiter import SlidingWindowLimiter
from tests.pipelines.runtime.clocks import ManualClock


@given(per_minute=st.integers(1, 5), pauses=st.lists(st.floats(0, 100), max_size=40))
async def test_no_minute_has_more_than_allowed(per_minute: int, pauses: list[float]) -> None:
    """Attempts come in bursts and after pauses of any length. Whichever minute one looks at, no more began than
    allowed: a provider that counts them would refuse the rest."""
    clock = ManualClock()
    limit = SlidingWindowLimiter(per_minute, clock)
    begun = []
    for pause in pauses:
        clock.at_s += pause
        await limit.acquire()
        begun.append(clock.at_s)

    for n, start in enumerate(begun):
        assert bisect_left(begun, start + 59.999) - n <= per_minute


async def test_within_the_limit_nobody_waits() -> None:
    """The first three of three a minute go at once, the fourth a minute after the first. A limit that spread them
    would delay a lone call for nothing."""
    clock = ManualClock()
    limit = SlidingWindowLimiter(3, clock)
    took = []
    for _ in range(4):
        await limit.acquire()
        took.append(clock.at_s - 1_000)

    assert took == [0, 0, 0, 60]


async def test_without_a_limit_nobody_waits() -> None:
    """None is no limit."""
    clock = ManualClock()
    limit = SlidingWindowLimiter(None, clock)
    for _ in range(1_000):
        await limit.acquire()

    assert clock.at_s == 1_000
