"""Clocks for tests."""

import asyncio
import time


class FastClock:
    """Clock that runs `speed` times as fast as real time, also while it sleeps."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began_ms, self._began_s = time.time() * 1000, time.monotonic()

    def now_ms(self) -> int:
        return round(self._began_ms + self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        """Returns the seconds since it was created."""
        return (time.monotonic() - self._began_s) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)


class ManualClock:
    """Clock whose time passes only in sleeps, which return at once."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now_ms(self) -> int:
        return round(self.at_s * 1000)

    def monotonic_s(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds
        await asyncio.sleep(0)
