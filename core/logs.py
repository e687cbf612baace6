"""How a service's log looks: one line per message, `time level service message`, time in UTC."""

import logging
import re
import sys
import time

_LINE = re.compile(r"\S+Z (?P<level>[A-Z]+) \S+ (?P<message>.*)")


class _OneLine(logging.Formatter):
    """Keeps a message on its line, so that whoever reads line by line takes nothing apart; a stack trace follows it,
    indented."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = super().format(record).splitlines() or [""]
        return "\n".join([first, *(f"    {line}" for line in rest)])


def configure(service: str, level: str) -> None:
    """Sends this process' log to stderr at that level ("INFO")."""
    handler = logging.StreamHandler(sys.stderr)
    template = f"%(asctime)s.%(msecs)03dZ %(levelname)s {service} %(message)s"
    handler.setFormatter(_OneLine(template, datefmt="%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Each request of an HTTP client is no news, and its URL may hold what no log should.
    for chatty in ("httpx", "httpcore", "urllib3", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Each try at a store that is away; who wanted something of it says so, in words.
    for chatty in ("urllib3.connectionpool", "clickhouse_connect"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def warning_in(line: str) -> str | None:
    """ "LEVEL message" if the line is a warning or worse, else None."""
    match = _LINE.fullmatch(line)
    if match and logging.getLevelNamesMapping().get(match["level"], 0) >= logging.WARNING:
        return f"{match['level']} {match['message']}"
    return None
