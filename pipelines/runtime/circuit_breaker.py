"""Circuit breaker of a provider: during an outage jobs wait, and no attempt is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.clock import Clock
from pipelines.runtime.errors import (
    BilledFailureError,
    ProviderOutageError,
    RetryableError,
    RetryLaterError,
    StageError,
)

# If this many different calls fail in a row, the provider is the cause. With a lower number, calls that fail because
# of their content would be taken for an outage too often.
_MAX_FAILING_CALLS = 3
# A longer Retry-After is a mistake of the provider, and would hold up every call.
_MAX_WAIT_S = 300.0


class CircuitBreaker:
    """Breaker with the usual states: closed lets every job pass, open lets a single probe pass at a time.

    It opens when a job raises ProviderOutageError, or when retryable errors of several different calls follow one
    another without a success; the last of those errors then becomes a ProviderOutageError too.

    While it is open, one job probes the provider every `pause_s` seconds (or after the provider's Retry-After). If the
    provider responds, the breaker closes.
    """

    def __init__(self, pause_s: float, clock: Clock) -> None:
        """Creates a closed breaker.

        Args:
            pause_s: Seconds before a probe.
            clock: Clock that the pauses use.
        """
        self._pause_s = self._probe_delay_s = pause_s
        self._clock = clock
        self._changed = asyncio.Condition()
        self._closed = True
        self._probing = False
        self._failing_calls: set[str] = set()  # ids of the calls that failed since the last success

    @property
    def is_open(self) -> bool:
        """True while the provider counts as unreachable."""
        return not self._closed

    @asynccontextmanager
    async def guard(self, call_id: str) -> AsyncIterator[None]:
        """Waits until the job may run. The outcome of the block shows whether the provider is reachable.

        Raises:
            ProviderOutageError: In place of the error of the block, if that error counts as an outage.
        """
        probe = await self._enter()
        reachable: bool | None = None
        try:
            if probe:
                await self._clock.sleep(self._probe_delay_s)
            yield
            reachable = True
        except RetryLaterError:  # says nothing about the provider
            raise
        except ProviderOutageError as error:
            reachable = False
            self._probe_delay_s = max(self._pause_s, min(error.retry_after_s or 0, _MAX_WAIT_S))
            raise
        except BilledFailureError:
            reachable = True
            self._failing_calls.clear()
            raise
        except (RetryableError, TimeoutError) as error:
            self._failing_calls.add(call_id)
            if len(self._failing_calls) >= _MAX_FAILING_CALLS:
                reachable = False
                raise ProviderOutageError(f"{len(self._failing_calls)} calls in a row failed: {error!r}") from error
            # A time-out is our own deadline and says nothing about the provider. Any other error is a response.
            reachable = None if isinstance(error, TimeoutError) else True
            raise
        except StageError:
            reachable = True
            self._failing_calls.clear()
            raise
        else:
            self._failing_calls.clear()
        finally:
            await self._leave(probe, reachable)

    async def _enter(self) -> bool:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or not self._probing)
            if self._closed:
                return False
            self._probing = True
            return True

    async def _leave(self, probe: bool, reachable: bool | None) -> None:
        async with self._changed:
            if probe:
                self._probing = False
            if reachable is not None:
                self._closed = reachable
            self._changed.notify_all()
