"""Logs of the services: one line per message, as text (`time level service message`) or as JSON. Times are in UTC.

Clients and stores decide how often something goes wrong, so warnings and errors are limited per kind. A kind is the
source line that logs it. Control characters are escaped.
"""

import json
import logging
import re
import sys
import time
from dataclasses import dataclass
from typing import Literal

from core.printable import printable, without_password

LogFormat = Literal["text", "json"]

WINDOW_S = 10.0
MAX_LINES = 10
"""Most warnings and errors of one kind within the window."""

MAX_TRACES = 1
"""Most stack traces of one kind within the window. Further errors are logged without theirs."""

_LINE = re.compile(r"\S+Z (?P<level>[A-Z]+) \S+ (?P<message>.*)")
_TIME = "%Y-%m-%dT%H:%M:%S"


class _TextFormatter(logging.Formatter):
    """Formatter that keeps a message on one line and indents further lines, such as a stack trace.

    So a program that reads the log line by line can tell where a message begins.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)s {service} %(message)s", datefmt=_TIME)

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = printable(without_password(super().format(record))).splitlines() or [""]
        return "\n".join([first, *(f"    {line}" for line in rest)])


class _JsonFormatter(logging.Formatter):
    """Formatter that writes one JSON object per message, with the stack trace in a field of its own."""

    converter = staticmethod(time.gmtime)

    def __init__(self, service: str) -> None:
        super().__init__(datefmt=_TIME)
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": f"{self.formatTime(record, self.datefmt)}.{record.msecs:03.0f}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return printable(without_password(json.dumps(fields)))


@dataclass(slots=True)
class _Budget:
    """Lines of one kind in the current window."""

    window_start_s: float = float("-inf")
    logged: int = 0
    traces: int = 0
    suppressed: int = 0


class RateLimit(logging.Filter):
    """Passes the first warnings and errors of each kind and window; messages below WARNING always pass.

    The first message of the next window reports the number of suppressed ones.
    """

    def __init__(self, max_lines: int = MAX_LINES, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self._max_lines = max_lines
        self._window_s = window_s
        self._budgets: dict[tuple[str, int], _Budget] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns True if the record may be logged."""
        if record.levelno < logging.WARNING:
            return True
        source = (record.pathname, record.lineno)
        budget = self._budgets.setdefault(source, _Budget())
        before = 0
        if record.created - budget.window_start_s >= self._window_s:
            before = budget.suppressed
            budget = self._budgets[source] = _Budget(record.created)
        if budget.logged >= self._max_lines:
            budget.suppressed += 1
            return False
        budget.logged += 1
        if record.exc_info:
            budget.traces += 1
            if budget.traces > MAX_TRACES:
                _replace_trace(record)
        if before:
            record.msg, record.args = f"{record.getMessage()} ({before} more like this before)", ()
        return True


def configure(service: str, level: str, log_format: LogFormat = "text") -> None:
    """Sends the log of this process to stderr at that level ("INFO")."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(service) if log_format == "json" else _TextFormatter(service))
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # HTTP clients log each request with its URL, which may contain a secret.
    for name in ("httpx", "httpcore", "urllib3", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # These log each attempt to reach an unavailable store; the caller logs that failure itself.
    for name in ("urllib3.connectionpool", "clickhouse_connect"):
        logging.getLogger(name).setLevel(logging.ERROR)


def warning_in(line: str) -> str | None:
    """Returns "LEVEL message" if the line, in either format, is a warning or worse, else None."""
    match = _LINE.fullmatch(line)
    level, message = (match["level"], match["message"]) if match else _from_json(line)
    return f"{level} {message}" if logging.getLevelNamesMapping().get(level, 0) >= logging.WARNING else None


def _from_json(line: str) -> tuple[str, str]:
    """Returns level and message of a line of `_JsonFormatter`, "" and "" for any other line."""
    if not line.startswith("{"):
        return "", ""
    try:
        fields = json.loads(line)
    except ValueError:
        return "", ""
    return str(fields.get("level", "")), str(fields.get("message", ""))


def _replace_trace(record: logging.LogRecord) -> None:
    """Replaces the stack trace of the record by the name and the first line of the exception."""
    error = record.exc_info[1] if record.exc_info else None
    first_line = (str(error).splitlines() or [""])[0]
    record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}: {first_line}", ()
    record.exc_info = record.exc_text = None
