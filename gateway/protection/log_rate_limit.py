"""A bound on what outsiders can make us write down: who knocks a thousand times a second fills no disk."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

WINDOW_S = 10.0
MOST = 20
"""Warnings of one kind, which is one place in the code, within the window."""


@contextmanager
def bounded(loggers: Sequence[str]) -> Iterator[None]:
    """What these loggers write is bounded meanwhile."""
    flood = FloodFilter()
    for name in loggers:
        logging.getLogger(name).addFilter(flood)
    try:
        yield
    finally:
        for name in loggers:
            logging.getLogger(name).removeFilter(flood)


class RateLimitedLogger:
    """Warnings of one kind, bounded likewise, for where even those that are not written must cost nothing."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now_s = now_s
        self._kind = _Kind()

    def warning(self, text: str, *args: object) -> None:
        """Writes it, unless there were too many."""
        kept_back = self._kind.take(self._now_s())
        if kept_back is None:
            return
        self._log.warning(text + _MORE if kept_back else text, *args, *((kept_back,) if kept_back else ()))


_MORE = " (%d more like this before)"


@dataclass(slots=True)
class _Kind:
    most: int = MOST
    window_s: float = WINDOW_S
    began_s: float = float("-inf")
    told: int = 0
    kept_back: int = 0

    def take(self, now_s: float) -> int | None:
        """One more. How many were kept back before it since the last that was written, or None if it is, too."""
        before = 0
        if now_s - self.began_s >= self.window_s:
            before, self.began_s, self.told, self.kept_back = self.kept_back, now_s, 0, 0
        if self.told >= self.most:
            self.kept_back += 1
            return None
        self.told += 1
        return before


class FloodFilter(logging.Filter):
    """Lets the first warnings of each kind and window pass; the next window's first says how many it kept back.

    Errors always pass.
    """

    def __init__(self, most: int = MOST, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self._most = most
        self._window_s = window_s
        self._kinds: dict[tuple[str, int], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if record.levelno > logging.WARNING:
            return True
        kind = self._kinds.setdefault((record.pathname, record.lineno), _Kind(self._most, self._window_s))
        kept_back = kind.take(record.created)
        if kept_back:
            record.msg, record.args = record.getMessage() + _MORE % kept_back, ()
        return kept_back is not None
