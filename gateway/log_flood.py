"""A bound on what outsiders can make us write down: who knocks a thousand times a second fills no disk."""

import logging
from collections.abc import Iterator, Sequence
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


@dataclass(slots=True)
class _Kind:
    began_s: float
    told: int = 0
    kept_back: int = 0


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
        place = (record.pathname, record.lineno)
        kind = self._kinds.setdefault(place, _Kind(record.created))
        if record.created - kind.began_s >= self._window_s:
            if kind.kept_back:
                record.msg, record.args = f"{record.getMessage()} ({kind.kept_back} more like this before)", ()
            self._kinds[place] = kind = _Kind(record.created)
        if kind.told >= self._most:
            kind.kept_back += 1
            return False
        kind.told += 1
        return True
