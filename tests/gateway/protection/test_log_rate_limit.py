"""Tests of the rate limit for log lines that remote clients cause."""

import logging

from gateway.protection.log_rate_limit import MAX_WARNINGS, WINDOW_S, RateLimitedLogger, WarningRateFilter


def log_refusal(logger: logging.Logger, number: int) -> None:
    """Logs a refusal. All refusals come from this one source line, as in the gateway."""
    logger.warning("socket %d refused", number)


def test_repeated_warnings_are_suppressed_and_counted() -> None:
    """Logs a thousand warnings from one source line, one from another, and an error, then one in the next window.

    Only the first warnings, the other line and the error may pass, and the next window must report the number of
    suppressed ones. A failure means that a client can fill the disk.
    """
    written: list[logging.LogRecord] = []
    logger = logging.Logger("test")
    logger.addFilter(WarningRateFilter(limit=3, window_s=10))
    logger.addHandler(_RecordingHandler(written))
    for number in range(1000):
        log_refusal(logger, number)
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


def test_rate_limited_logger_suppresses_warnings() -> None:
    """Logs a thousand warnings within one window with RateLimitedLogger, then two in the next window.

    It must suppress and count them as WarningRateFilter does, before a log record is created.
    """
    written: list[logging.LogRecord] = []
    logger, now = logging.Logger("test"), [100.0]
    logger.addHandler(_RecordingHandler(written))
    limited = RateLimitedLogger(logger, lambda: now[0])
    for number in range(1000):
        limited.warning("socket %d refused", number)
    now[0] += WINDOW_S
    limited.warning("socket %d refused", 7)
    limited.warning("socket %d refused", 8)
    assert [record.getMessage() for record in written] == [
        *(f"socket {number} refused" for number in range(MAX_WARNINGS)),
        f"socket 7 refused ({1000 - MAX_WARNINGS} more like this before)",
        "socket 8 refused",
    ]


class _RecordingHandler(logging.Handler):
    def __init__(self, written: list[logging.LogRecord]) -> None:
        super().__init__()
        self._written = written

    def emit(self, record: logging.LogRecord) -> None:
        self._written.append(record)
