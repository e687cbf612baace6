"""Runs the blocking clients of the stores, each in a few threads of its own.

So a store that hangs does not delay requests that need another store.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from functools import partial
from typing import ParamSpec, TypeVar

from api.errors import unavailable
from api.threads import in_thread

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class StoreExecutor:
    """Executor of one store.

    Logs an outage once, as a warning, and again only after the store has answered: readiness checks query the store
    every second.
    """

    def __init__(
        self,
        name: str,
        unavailable_errors: type[Exception] | tuple[type[Exception], ...],
        *,
        passes: tuple[type[Exception], ...] = (),
        threads: int = 8,
        timeout_s: float = 15.0,
    ) -> None:
        """Starts no threads yet.

        name: the store's name in messages.
        unavailable_errors: errors that the client raises when the store cannot be used.
        passes: subclasses of them with another meaning, which are raised unchanged.
        timeout_s: limit for one operation, including the wait for a free thread; after it the store counts as
        unavailable. The thread ends by the client's own timeout.
        """
        self.name = name
        self._unavailable_errors = unavailable_errors
        self._passes = passes
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(threads)
        self._outage_logged = False

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the function's result.

        Raises ApiError 503 that names the store if it is unavailable, else the function's own exception.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                # Shielded: a request that times out must not mark its thread as free while the thread still runs.
                result = await asyncio.shield(await self._start(partial(function, *args, **kwargs)))
        except TimeoutError as error:
            self._log_outage("%s has not answered within %g s", self.name, self._timeout_s)
            raise unavailable(self.name) from error
        except self._passes:
            raise
        except self._unavailable_errors as error:
            self._log_outage("%s is unavailable: %s", self.name, error)
            raise unavailable(self.name) from error
        if self._outage_logged:
            logger.info("%s answers again", self.name)
        self._outage_logged = False
        return result

    async def stream(self, source: Iterator[bytes]) -> AsyncGenerator[bytes]:
        """Yields the items of a blocking iterator; reads each when the previous one has been taken.

        Raises like `__call__`. If the consumer stops early, closes the iterator if it is a generator.
        """
        reader = _Reader(source)
        try:
            while chunk := await self(reader.read):
                yield chunk
        finally:
            # Not awaited: a read that hangs would delay a consumer that stops early.
            in_thread(reader.close, self.name)

    def _log_outage(self, text: str, *args: object) -> None:
        logger.log(logging.DEBUG if self._outage_logged else logging.WARNING, text, *args)
        self._outage_logged = True

    async def _start(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        await self._free.acquire()
        future = in_thread(function, self.name)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: "asyncio.Future[T]") -> None:
        self._free.release()
        if not future.cancelled():
            future.exception()  # retrieved, in case no task awaits the future any more


class _Reader:
    """Iterator that one thread may close while another thread still reads it."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """Returns the next item; empty after the last one."""
        with self._lock:
            return next(self._source, b"")

    def close(self) -> None:
        """Closes a generator once no thread reads it."""
        with self._lock:
            if isinstance(self._source, Generator):
                self._source.close()
