"""The circuit breaker of a provider."""

import contextlib

import pytest

from pipelines.runtime.circuit_breaker import CircuitBreaker
from pipelines.runtime.errors import (
    BilledFailureError,
    PermanentError,
    ProviderOutageError,
    RetryableError,
    RetryLaterError,
)
from tests.support.clocks import ManualClock


async def tries(gate: CircuitBreaker, call: str, error: Exception | None) -> type[BaseException] | None:
    """Runs one job that raises the error, and returns the outcome."""
    try:
        async with gate.guard(call):
            if error:
                raise error
    except Exception as raised:
        return type(raised)
    return None


async def test_a_row_of_different_failing_calls_is_an_outage() -> None:
    """Fails three different calls in a row with 503 or a time-out.

    From the third on it counts as an outage and costs no attempts, for any job that probes, until a call succeeds.
    After that a failure belongs to its call again.
    """
    gate = CircuitBreaker(5, ManualClock())
    assert await tries(gate, "a", RetryableError("503")) is RetryableError
    assert await tries(gate, "b", TimeoutError()) is TimeoutError
    assert not gate.is_open
    assert await tries(gate, "c", RetryableError("503")) is ProviderOutageError
    assert await tries(gate, "a", RetryableError("503")) is ProviderOutageError
    assert gate.is_open
    assert await tries(gate, "b", None) is None
    assert not gate.is_open
    assert await tries(gate, "a", RetryableError("503")) is RetryableError


@pytest.mark.parametrize("between", [None, PermanentError("400")])
async def test_one_failing_call_is_not_an_outage(between: Exception | None) -> None:
    """Fails one call again and again while others get responses.

    It must use up its attempts and must not stop the stage.
    """
    gate = CircuitBreaker(5, ManualClock())
    for n in range(20):
        assert await tries(gate, f"bad-{n % 2}", RetryableError("500")) is RetryableError
        if n % 2:
            await tries(gate, f"good-{n}", between)
    assert not gate.is_open


async def test_a_waiting_job_says_nothing_about_the_provider() -> None:
    """Lets jobs wait for an earlier order's lease. That must not count as an outage."""
    gate = CircuitBreaker(5, ManualClock())
    for n in range(10):
        assert await tries(gate, f"call-{n}", RetryLaterError("wait", retry_after_s=1)) is RetryLaterError
    assert not gate.is_open


async def test_a_probe_waits_for_retry_after() -> None:
    """Sends a 503 with Retry-After: 40.

    The next probe must come after 40 s; the one after it, without a header, after 5 s.
    """
    clock = ManualClock()
    gate = CircuitBreaker(5, clock)
    waits = []
    for wish in (40, None, None):
        before = clock.at_s
        with contextlib.suppress(ProviderOutageError):
            async with gate.guard("a"):
                raise ProviderOutageError("503", retry_after_s=wish)
        waits.append(clock.at_s - before)
    assert waits == [0, 40, 5]


async def test_an_answer_that_comes_to_nothing_is_no_outage() -> None:
    """Gives many different calls in a row an unusable response that is charged.

    Each must count as an attempt of its call. If it counted as an outage it would cost no attempts, and be paid without
    end.
    """
    gate = CircuitBreaker(5, ManualClock())
    for n in range(10):
        assert await tries(gate, f"call-{n}", BilledFailureError("no JSON")) is BilledFailureError
    assert not gate.is_open


async def test_a_very_long_retry_after_is_limited() -> None:
    """Sends a 503 with a Retry-After of a month, as a server with a wrong clock does.

    The next probe must come after 5 minutes. Otherwise one response would stop the stage until a restart.
    """
    clock = ManualClock()
    began_s = clock.at_s
    gate = CircuitBreaker(5, clock)
    assert await tries(gate, "a", ProviderOutageError("503", retry_after_s=2_600_000)) is ProviderOutageError
    assert await tries(gate, "a", None) is None
    assert clock.at_s - began_s == 300
