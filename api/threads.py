"""Runs blocking functions outside the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(function: Callable[[], T], name: str) -> "asyncio.Future[T]":
    """Runs the function in a new thread and returns a future of its result.

    Uses a daemon thread, not an executor: a thread cannot be stopped, the process waits for an executor's threads when
    it ends, and a thread that hangs in a store must not delay that. Starting a thread takes about 50 µs.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(outcome: T | None, error: BaseException | None) -> None:
        if future.done():  # cancelled
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome)  # type: ignore[arg-type]  # no error, so it is a T

    def work() -> None:
        outcome, error = None, None
        try:
            outcome = function()
        except BaseException as caught:  # raised where the future is awaited
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has closed: the process is ending
            loop.call_soon_threadsafe(settle, outcome, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
