"""Clock of the runtime. It is an interface, so that a test can make half an hour pass in seconds."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Source of the current time: `now_ms` for timestamps on the log, `monotonic_s` for measuring durations."""

    def now_ms(self) -> int:
        """Returns the wall clock, ms since the epoch."""

    def monotonic_s(self) -> float:
        """Returns seconds since an arbitrary point; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Waits for that many seconds."""


class SystemClock:
    """Clock of the machine."""

    def now_ms(self) -> int:
        """Returns the wall clock, ms since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Returns seconds since an arbitrary point; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Waits for that many seconds."""
        await asyncio.sleep(seconds)
