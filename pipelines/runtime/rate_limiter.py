"""How many attempts a stage may begin in a minute."""

import asyncio
from collections import deque

from core.clock import Clock

_WINDOW_S = 60.0


class SlidingWindowLimiter:
    """Never more than `per_minute` in any 60 seconds; those within the limit go at once, also in a burst.

    A bucket that refills steadily would let through twice as many in the minute after a pause, and a provider counts
    those. In memory, per process: a restart forgets what went before it.
    """

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        """per_minute: None does not limit."""
        self._clock = clock
        self._limited = per_minute is not None
        self._begun: deque[float] = deque(maxlen=per_minute)
        self._turn = asyncio.Lock()  # first come, first served

    async def acquire(self) -> None:
        """Returns once one more may begin, and counts it."""
        if not self._limited:
            return
        async with self._turn:
            while len(self._begun) == self._begun.maxlen:
                wait_s = self._begun[0] + _WINDOW_S - self._clock.monotonic_s()
                if wait_s <= 0:
                    break
                await self._clock.sleep(wait_s)
            self._begun.append(self._clock.monotonic_s())
