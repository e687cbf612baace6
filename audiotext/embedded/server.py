"""What an embedded server is: a command, the addresses it yields, and a way to know that it answers."""

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import UserError

LOOPBACK = "127.0.0.1"


class MissingExtraError(UserError):
    """A part of the embedded stack is not installed; the message says how to install it."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} is not installed: pip install 'audiotext[local]'")


class ServerError(Exception):
    """An embedded server does not come up; the message names it."""


@dataclass(frozen=True, slots=True)
class Server:
    """An embedded server, described; nothing runs yet.

    command, env: how to start it in the foreground (env comes on top of the parent's); SIGTERM ends it with its data
    on disk. addresses: environment variables (AUDIOTEXT_…) by which services find it. answers: asks it once whether
    it serves, never raises; takes a second or two at most.
    """

    name: str
    command: tuple[str, ...]
    addresses: Mapping[str, str]
    answers: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


def wait_until_it_answers(server: Server, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Returns once the server serves. Raises ServerError after `timeout_s`, or as soon as `alive` says no."""
    deadline = time.monotonic() + timeout_s
    while not server.answers():
        if not alive():
            raise ServerError(f"{server.name} has ended before it answered")
        if time.monotonic() > deadline:
            raise ServerError(f"{server.name} does not answer within {timeout_s:g} s")
        time.sleep(0.05)


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now (a port in TIME_WAIT counts as free, as it does for servers)."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def port_answers(port: int) -> bool:
    """Whether something listens on the loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=0.5).close()
    except OSError:
        return False
    return True
