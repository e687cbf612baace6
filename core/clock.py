"""Time as the runtime sees it, so that a test can make half an hour pass in seconds."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """now_ms: wall clock, ms since the epoch, for what is written on the log. monotonic_s: for measuring."""

    def now_ms(self) -> int: ...

    def monotonic_s(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's."""

    def now_ms(self) -> int:
        """Wall clock, ms since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds from some point; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)
