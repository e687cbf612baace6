"""A gate in front of a provider: closed while the provider is away, so that an outage costs time and no attempts."""

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

# So many different calls failing one after the other, none succeeding between, are no coincidence. With fewer, calls
# that only fail for what they contain would pass for an outage too often.
_SUSPICIOUS = 3


_LONGEST_WAIT_S = 300.0


class CircuitBreaker:
    """Open, every job passes. It closes once one meets a ProviderOutageError, or once so many different calls in a row
    fail retryably that the provider must be the reason; that failure then counts as an outage too.

    Closed, a single job is let through every `pause_s` seconds (or when the provider asked for it) to look. If the
    provider answers it the gate opens for all.
    """

    def __init__(self, pause_s: float, clock: Clock) -> None:
        self._pause_s = self._wait_s = pause_s
        self._clock = clock
        self._changed = asyncio.Condition()
        self._open = True
        self._probing = False
        self._failing: set[str] = set()  # calls that failed since the last one that did not

    @property
    def closed(self) -> bool:
        """Whether the provider is believed to be away."""
        return not self._open

    @asynccontextmanager
    async def passing(self, call_id: str) -> AsyncIterator[None]:
        """Waits until the job may try; what the job raises inside tells whether the provider is there.

        Raises ProviderOutageError for what the job raised, if that is taken for an outage.
        """
        probe = await self._enter()
        answered: bool | None = None
        try:
            if probe:
                await self._clock.sleep(self._wait_s)
            yield
            answered = True
        except RetryLaterError:  # the job's own affair
            raise
        except ProviderOutageError as error:
            answered = False
            # A longer wish is a mistake, and would hold every call back for ever.
            self._wait_s = max(self._pause_s, min(error.retry_after_s or 0, _LONGEST_WAIT_S))
            raise
        except BilledFailureError:
            answered = True
            self._failing.clear()
            raise
        except (RetryableError, TimeoutError) as error:
            self._failing.add(call_id)
            if len(self._failing) >= _SUSPICIOUS:
                answered = False
                raise ProviderOutageError(f"{len(self._failing)} calls in a row failed: {error!r}") from error
            # A time-out is our own deadline and says nothing; anything else is an answer.
            answered = None if isinstance(error, TimeoutError) else True
            raise
        except StageError:
            answered = True
            self._failing.clear()
            raise
        else:
            self._failing.clear()
        finally:
            await self._leave(probe, answered)

    async def _enter(self) -> bool:
        async with self._changed:
            await self._changed.wait_for(lambda: self._open or not self._probing)
            if self._open:
                return False
            self._probing = True
            return True

    async def _leave(self, probe: bool, answered: bool | None) -> None:
        async with self._changed:
            if probe:
                self._probing = False
            if answered is not None:
                self._open = answered
            self._changed.notify_all()
