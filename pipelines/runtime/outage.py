"""A gate in front of a provider: closed while the provider is away, so that an outage costs time and no attempts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipelines.runtime.errors import ProviderOutageError


class OutageGate:
    """Open, every job passes. Once one meets a ProviderOutageError the gate closes: after `pause_s` seconds a single
    job is let through to look, and if the provider answers it, whatever it says, the gate opens for all."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._changed = asyncio.Condition()
        self._open = True
        self._probing = False

    @property
    def closed(self) -> bool:
        """Whether the provider is believed to be away."""
        return not self._open

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Waits until the job may try; what the job raises inside tells whether the provider is there."""
        probe = await self._enter()
        answered: bool | None = None
        try:
            if probe:
                await asyncio.sleep(self._pause_s)
            yield
            answered = True
        except ProviderOutageError:
            answered = False
            raise
        except TimeoutError:  # our own deadline: says nothing about the provider
            raise
        except Exception:
            answered = True
            raise
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
