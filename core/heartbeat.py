"""Heartbeat of a service: its main loop reports each iteration, and the supervisor restarts a silent service.

The messages follow systemd's watchdog protocol (sd_notify: a datagram to the socket that NOTIFY_SOCKET names). So
`audiotext up` and a systemd unit with `WatchdogSec=` detect a hung service in the same way. Kubernetes uses `/healthz`
(core.metrics_server). A stuck thread, a deadlock and a stopped process all look the same to the supervisor.
"""

import os
import socket
import time

HANG_TIMEOUT_S = 120.0
"""A loop without an iteration for this time counts as hung. Longer waits for the log or a store are split."""

_SEND_INTERVAL_S = 1.0  # shortest time between two datagrams
_READY, _ALIVE = b"READY=1\n", b"WATCHDOG=1"
_DATAGRAM = 1_024


class Heartbeat:
    """Records the loop's iterations. The loop calls `beat` once per iteration; any thread may read `age_s`.

    The watchdog starts with the first beat, because a service that starts may have to wait for the log.
    """

    def __init__(self, address: str | None = None) -> None:
        """Creates a heartbeat that sends to a socket.

        address: as in NOTIFY_SOCKET (`@` marks an abstract socket); None sends nothing.
        """
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._last_beat: float | None = None
        self._last_sent = float("-inf")

    @classmethod
    def from_environment(cls) -> "Heartbeat":
        """Returns a heartbeat that sends to NOTIFY_SOCKET, if that variable is set."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def beat(self) -> None:
        """Records an iteration of the loop. Never waits, never fails."""
        first, self._last_beat = self._last_beat is None, time.monotonic()
        if self._address and self._last_beat - self._last_sent >= _SEND_INTERVAL_S:
            self._last_sent = self._last_beat
            self._send(_READY + _ALIVE if first else _ALIVE)

    @property
    def age_s(self) -> float:
        """Seconds since the last beat; 0 before the first."""
        last = self._last_beat
        return 0.0 if last is None else time.monotonic() - last

    def _send(self, message: bytes) -> None:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto(message, self._address or "")
        except OSError:  # no listener, or its queue is full: the next beat tries again
            pass


class WatchdogSocket:
    """Socket that receives the heartbeat of one process at a time. Call `close` at the end."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind("")  # the system chooses a free abstract address

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that the process must be started with."""
        name: bytes = self._socket.getsockname()
        return {"NOTIFY_SOCKET": "@" + name[1:].decode(), "WATCHDOG_USEC": str(round(HANG_TIMEOUT_S * 1_000_000))}

    def received(self) -> bool:
        """Returns True if a heartbeat arrived since the last call."""
        found = False
        while True:
            try:
                self._socket.recv(_DATAGRAM)
            except OSError:
                return found
            found = True

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()
