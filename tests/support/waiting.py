"""Waiting for something that another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_INTERVAL_S = 0.02


def wait_for(find: Callable[[], T | None], what: str, timeout_s: float = 60) -> T:
    """Returns the first result of `find` that is not None. Raises AssertionError after `timeout_s`; it names `what`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = find()
        if found is not None:
            return found
        time.sleep(_POLL_INTERVAL_S)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 45) -> float:
    """Returns when the condition is true, and for how long it waited (s). Raises AssertionError after `timeout_s`."""
    began = time.monotonic()
    wait_for(lambda: condition() or None, what, timeout_s)
    return time.monotonic() - began
