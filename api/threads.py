"""Blocking functions beside the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(function: Callable[[], T], name: str) -> "asyncio.Future[T]":
    """The function's outcome, worked out in a thread of its own.

    A daemon thread, not an executor's: a thread cannot be stopped, an executor's are waited for when the process
    ends, and one that is stuck in a store that hangs must not hold that up. Starting one takes some 50 µs.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(outcome: T | None, error: BaseException | None) -> None:
        if future.done():  # cancelled: nobody wants it any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome)  # type: ignore[arg-type]  # no error, so it is a T

    def work() -> None:
        outcome, error = None, None
        try:
            outcome = function()
        except BaseException as caught:  # it belongs to whoever waits
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has closed: the process is ending
            loop.call_soon_threadsafe(settle, outcome, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
