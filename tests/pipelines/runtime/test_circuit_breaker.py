"""The gate in front of a provider."""

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
from tests.pipelines.runtime.clocks import ManualClock


async def tries(gate: CircuitBreaker, call: str, error: Exception | None) -> type[BaseException] | None:
    """What comes of a job that meets the error."""
    try:
        async with gate.guard(call):
            if error:
                raise error
    except Exception as raised:
        return type(raised)
    return None


async def test_a_row_of_different_failing_calls_is_an_outage() -> None:
    """Three calls in a row get 503 or no answer: from the third on it counts as an outage and costs no attempts, for
    whoever looks, until a call succeeds; then failures are the calls' own again."""
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
async def test_a_call_that_fails_by_itself_is_no_outage(between: Exception | None) -> None:
    """One call fails again and again, others are answered between: it must use its attempts up and not stop the
    stage for ever."""
    gate = CircuitBreaker(5, ManualClock())
    for n in range(20):
        assert await tries(gate, f"bad-{n % 2}", RetryableError("500")) is RetryableError
        if n % 2:
            await tries(gate, f"good-{n}", between)
    assert not gate.is_open


async def test_who_only_has_to_wait_blames_nobody() -> None:
    """Jobs that must wait for an earlier order's window are no sign of an outage."""
    gate = CircuitBreaker(5, ManualClock())
    for n in range(10):
        assert await tries(gate, f"call-{n}", RetryLaterError("wait", retry_after_s=1)) is RetryLaterError
    assert not gate.is_open


async def test_a_provider_is_asked_again_when_it_said() -> None:
    """503 with Retry-After: 40: the next look comes 40 s later; the one after that, without a wish, 5 s later."""
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
    """Many different calls in a row get an answer nobody can use, and pay for it: each is an attempt of its own call.
    If it passed for an outage it would cost no attempts, and so be paid for without end."""
    gate = CircuitBreaker(5, ManualClock())
    for n in range(10):
        assert await tries(gate, f"call-{n}", BilledFailureError("no JSON")) is BilledFailureError
    assert not gate.is_open


async def test_an_absurd_wish_is_not_granted() -> None:
    """503 with a Retry-After of a month, as a server with a broken clock sends it: the next look comes after 5 minutes.
    If it failed, one answer would stop the stage until somebody restarted it."""
    clock = ManualClock()
    began_s = clock.at_s
    gate = CircuitBreaker(5, clock)
    assert await tries(gate, "a", ProviderOutageError("503", retry_after_s=2_600_000)) is ProviderOutageError
    assert await tries(gate, "a", None) is None
    assert clock.at_s - began_s == 300
