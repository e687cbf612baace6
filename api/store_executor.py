"""The stores behind the API. Their clients block, so each runs in a few threads of its own: one that hangs holds up
nobody who needs another."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from functools import partial
from typing import ParamSpec, TypeVar

from api.errors import unavailable
from api.threads import in_thread

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class StoreExecutor:
    """One store: a name users know, what its client raises when it is away, and how many threads it may use.

    That it is away is told once, until it answers again: it is asked every second whether it is there.
    """

    def __init__(
        self,
        name: str,
        away: type[Exception] | tuple[type[Exception], ...],
        *,
        passes: tuple[type[Exception], ...] = (),
        threads: int = 8,
        timeout_s: float = 15.0,
    ) -> None:
        """away: raised by the client when the store cannot be used; passes: kinds of it that say something else.
        timeout_s: a call that takes longer, waiting for a free thread included, counts as "away"; its thread ends
        by the client's own timeout."""
        self.name = name
        self._away = away
        self._passes = passes
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(threads)
        self._told = False

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result. Raises ApiError 503 naming the store if it is away, else what the function does."""
        try:
            async with asyncio.timeout(self._timeout_s):
                # Shielded: whoever gives up must not mark a thread as done that goes on.
                answer = await asyncio.shield(await self._start(partial(function, *args, **kwargs)))
        except TimeoutError as error:
            self._tell("%s has not answered within %g s", self.name, self._timeout_s)
            raise unavailable(self.name) from error
        except self._passes:
            raise
        except self._away as error:
            self._tell("%s is away: %s", self.name, error)
            raise unavailable(self.name) from error
        if self._told:
            log.info("%s answers again", self.name)
        self._told = False
        return answer

    async def chunks(self, source: Iterator[bytes]) -> AsyncGenerator[bytes]:
        """A blocking iterator's items, each read when the one before has been taken. Raises like a call. Leaving
        early closes it, should it be a generator."""
        reader = _Reader(source)
        try:
            while chunk := await self(reader.read):
                yield chunk
        finally:
            # Not waited for: a read that hangs would hold up whoever leaves.
            in_thread(reader.close, self.name)

    def _tell(self, text: str, *args: object) -> None:
        log.log(logging.DEBUG if self._told else logging.WARNING, text, *args)
        self._told = True

    async def _start(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        await self._free.acquire()
        future = in_thread(function, self.name)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: "asyncio.Future[T]") -> None:
        self._free.release()
        if not future.cancelled():
            future.exception()  # taken, in case nobody waits for it any more


class _Reader:
    """An iterator that one thread may want to close while another is still inside it."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """The next item; empty after the last."""
        with self._lock:
            return next(self._source, b"")

    def close(self) -> None:
        """Closes a generator once nobody is inside it."""
        with self._lock:
            if isinstance(self._source, Generator):
                self._source.close()
