"""Outsiders cannot make us write more than a little."""

import logging

from gateway.protection.log_rate_limit import MOST, WINDOW_S, FloodFilter, RateLimitedLogger


def knock(logger: logging.Logger, number: int) -> None:
    """Everything refused is written down in one place, as in the gateway."""
    logger.warning("socket %d refused", number)


def test_a_flood_is_told_once_in_a_while() -> None:
    """Logs a thousand warnings of one place, one of another and an error within one window, then one in the next: a
    few, the other and the error pass, and the next window says how many were kept back. A disk that fills because
    somebody knocks is an outage for nothing."""
    written: list[logging.LogRecord] = []
    logger = logging.Logger("test")
    logger.addFilter(FloodFilter(most=3, window_s=10))
    logger.addHandler(_Keeping(written))
    for number in range(1000):
        knock(logger, number)
    logger.warning("another place")
    logger.error("an error")
    assert [record.getMessage() for record in written] == [
        *(f"socket {number} refused" for number in range(3)),
        "another place",
        "an error",
    ]
    later = logging.LogRecord("test", logging.WARNING, written[0].pathname, written[0].lineno, "socket %d", (7,), None)
    later.created = written[0].created + 10.5
    logger.handle(later)
    assert written[-1].getMessage() == "socket 7 (997 more like this before)"


def test_what_must_cost_nothing_is_kept_back_before_it_is_a_record() -> None:
    """Warns a thousand times within one window, by the way that makes no record of what is kept back, and once in the
    next: as above."""
    written: list[logging.LogRecord] = []
    logger, now = logging.Logger("test"), [100.0]
    logger.addHandler(_Keeping(written))
    sparing = RateLimitedLogger(logger, lambda: now[0])
    for number in range(1000):
        sparing.warning("socket %d refused", number)
    now[0] += WINDOW_S
    sparing.warning("socket %d refused", 7)
    sparing.warning("socket %d refused", 8)
    assert [record.getMessage() for record in written] == [
        *(f"socket {number} refused" for number in range(MOST)),
        f"socket 7 refused ({1000 - MOST} more like this before)",
        "socket 8 refused",
    ]


class _Keeping(logging.Handler):
    def __init__(self, written: list[logging.LogRecord]) -> None:
        super().__init__()
        self._written = written

    def emit(self, record: logging.LogRecord) -> None:
        self._written.append(record)
