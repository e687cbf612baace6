"""Log format of the services: one line per message, `time level service message`, time in UTC."""

import logging
import re
import sys
import time

_LINE = re.compile(r"\S+Z (?P<level>[A-Z]+) \S+ (?P<message>.*)")


class _OneLine(logging.Formatter):
    """Formatter that keeps a message on one line and indents further lines, such as a stack trace.

    So a program that reads the log line by line can tell where a message begins.
    """

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = super().format(record).splitlines() or [""]
        return "\n".join([first, *(f"    {line}" for line in rest)])


def configure(service: str, level: str) -> None:
    """Sends the log of this process to stderr at that level ("INFO")."""
    handler = logging.StreamHandler(sys.stderr)
    template = f"%(asctime)s.%(msecs)03dZ %(levelname)s {service} %(message)s"
    handler.setFormatter(_OneLine(template, datefmt="%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # HTTP clients log each request with its URL, which may contain a secret.
    for name in ("httpx", "httpcore", "urllib3", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # These log each attempt to reach an unavailable store; the caller logs that failure itself.
    for name in ("urllib3.connectionpool", "clickhouse_connect"):
        logging.getLogger(name).setLevel(logging.ERROR)


def warning_in(line: str) -> str | None:
    """Returns "LEVEL message" if the line is a warning or worse, else None."""
    match = _LINE.fullmatch(line)
    if match and logging.getLevelNamesMapping().get(match["level"], 0) >= logging.WARNING:
        return f"{match['level']} {match['message']}"
    return None
