"""A service's heartbeat: its loop tells each time it comes round, and whoever started it restarts it when it does not.

What is sent is what systemd's watchdog wants (sd_notify: a datagram to the socket that NOTIFY_SOCKET names), so
`audiotext up` and a systemd unit with `WatchdogSec=` find a service that hangs in the same way; for Kubernetes there is
`/healthz` (core.metrics_server). A stuck thread, a deadlock and a stopped process look the same from there.
"""

import os
import socket
import time

HANGS_S = 120.0
"""A loop that has not come round for so long hangs. Whoever waits for the log or a store does it in shorter pieces."""

_EVERY_S = 1.0  # how often it is told at most
_READY, _ALIVE = b"READY=1\n", b"WATCHDOG=1"
_DATAGRAM = 1_024


class Heartbeat:
    """The loop calls `beat` each time it comes round; whoever wants to know asks, from any thread.

    Before the first beat nothing is expected: a service that starts may have to wait for the log.
    """

    def __init__(self, address: str | None = None) -> None:
        """address: of the socket to tell, as in NOTIFY_SOCKET (`@`: an abstract one); None tells nobody."""
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._last: float | None = None
        self._told = float("-inf")

    @classmethod
    def from_environment(cls) -> "Heartbeat":
        """Tells whoever started this process, if they asked for it."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def beat(self) -> None:
        """The loop came round just now. Never waits, never fails."""
        first, self._last = self._last is None, time.monotonic()
        if self._address and self._last - self._told >= _EVERY_S:
            self._told = self._last
            self._tell(_READY + _ALIVE if first else _ALIVE)

    @property
    def age_s(self) -> float:
        """Seconds since the last beat; 0 before the first."""
        last = self._last
        return 0.0 if last is None else time.monotonic() - last

    def _tell(self, message: bytes) -> None:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto(message, self._address or "")
        except OSError:  # nobody listens (any more), or is too busy to: the next beat will do
            pass


class WatchdogSocket:
    """Hears the heartbeat of one process after the other. Close it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind("")  # the system finds an abstract address that is free

    @property
    def environment(self) -> dict[str, str]:
        """What the process has to be started with."""
        name: bytes = self._socket.getsockname()
        return {"NOTIFY_SOCKET": "@" + name[1:].decode(), "WATCHDOG_USEC": str(round(HANGS_S * 1_000_000))}

    def heard(self) -> bool:
        """Whether the process has told anything since this was last asked."""
        found = False
        while True:
            try:
                self._socket.recv(_DATAGRAM)
            except OSError:
                return found
            found = True

    def close(self) -> None:
        """Hears nothing any more."""
        self._socket.close()
