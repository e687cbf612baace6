"""Rate limiter for the attempts that a stage starts."""

import asyncio
from collections import deque

from core.clock import Clock

_WINDOW_S = 60.0


class SlidingWindowLimiter:
    """Allows at most `per_minute` starts in any 60 seconds. Starts within the limit do not wait, even in a burst.

    A token bucket would allow twice the limit in the minute after a pause, and providers count that. The window is in
    memory, per process: a restart begins with an empty one.
    """

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        """Creates a limiter.

        Args:
            per_minute: Starts per minute; None means no limit.
            clock: Clock that measures the window.
        """
        self._clock = clock
        self._limited = per_minute is not None
        self._starts: deque[float] = deque(maxlen=per_minute)
        self._queue = asyncio.Lock()  # first come, first served

    async def acquire(self) -> None:
        """Waits until one more start is allowed, then counts it."""
        if not self._limited:
            return
        async with self._queue:
            while len(self._starts) == self._starts.maxlen:
                wait_s = self._starts[0] + _WINDOW_S - self._clock.monotonic_s()
                if wait_s <= 0:
                    break
                await self._clock.sleep(wait_s)
            self._starts.append(self._clock.monotonic_s())
