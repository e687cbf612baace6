"""Rate limit for log lines that remote clients cause, so that a flood of requests cannot fill the disk."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

WINDOW_S = 10.0
MAX_WARNINGS = 20
"""Most warnings from one source line within the window."""


@contextmanager
def rate_limited(loggers: Sequence[str]) -> Iterator[None]:
    """Limits the warnings of these loggers inside the context."""
    rate_filter = WarningRateFilter()
    for name in loggers:
        logging.getLogger(name).addFilter(rate_filter)
    try:
        yield
    finally:
        for name in loggers:
            logging.getLogger(name).removeFilter(rate_filter)


class RateLimitedLogger:
    """Logger of one kind of warning, for code where a suppressed warning must cost almost nothing."""

    def __init__(self, logger: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._now_s = now_s
        self._budget = _WarningBudget()

    def warning(self, text: str, *args: object) -> None:
        """Logs the warning unless the limit is reached."""
        suppressed = self._budget.take(self._now_s())
        if suppressed is None:
            return
        if suppressed:
            text, args = text + _SUPPRESSED_NOTE, (*args, suppressed)
        self._logger.warning(text, *args)


_SUPPRESSED_NOTE = " (%d more like this before)"


@dataclass(slots=True)
class _WarningBudget:
    limit: int = MAX_WARNINGS
    window_s: float = WINDOW_S
    window_start_s: float = float("-inf")
    logged: int = 0
    suppressed: int = 0

    def take(self, now_s: float) -> int | None:
        """Counts a warning. Returns None if it must be suppressed, else the number suppressed in the last window."""
        before = 0
        if now_s - self.window_start_s >= self.window_s:
            before, self.window_start_s, self.logged, self.suppressed = self.suppressed, now_s, 0, 0
        if self.logged >= self.limit:
            self.suppressed += 1
            return None
        self.logged += 1
        return before


class WarningRateFilter(logging.Filter):
    """Passes the first warnings of each source line and window; errors always pass.

    The first warning of the next window reports the number of suppressed ones.
    """

    def __init__(self, limit: int = MAX_WARNINGS, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self._limit = limit
        self._window_s = window_s
        self._budgets: dict[tuple[str, int], _WarningBudget] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns True if the record may be logged."""
        if record.levelno > logging.WARNING:
            return True
        source = (record.pathname, record.lineno)
        suppressed = self._budgets.setdefault(source, _WarningBudget(self._limit, self._window_s)).take(record.created)
        if suppressed:
            record.msg, record.args = record.getMessage() + _SUPPRESSED_NOTE % suppressed, ()
        return suppressed is not None
