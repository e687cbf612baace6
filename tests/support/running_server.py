"""Embedded servers on free ports and temporary directories, which tests start, stop and kill."""

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from audiotext.embedded.server import Server, wait_until_ready
from audiotext.embedded.state import State
from core import process


class RunningServer:
    """One embedded server with its own directory. Its ports and secrets stay the same after a restart.

    addresses: the AUDIOTEXT_… variables with which services find it.
    """

    def __init__(
        self, data_dir: Path, make: Callable[[State], Sequence[Server]], *, start_timeout_s: float = 30
    ) -> None:
        self.data_dir = data_dir
        self._make = make
        self._start_timeout_s = start_timeout_s
        self._servers: Sequence[Server] = ()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.addresses: dict[str, str] = {}

    def start(self) -> "RunningServer":
        """Starts it and returns when it answers."""
        self._servers = self._make(State(self.data_dir))
        self._processes = [self._spawn(server) for server in self._servers]
        for number, server in enumerate(self._servers):
            self._wait(number)
            self.addresses |= server.addresses
        return self

    def stop(self) -> None:
        """Sends SIGTERM, so that it saves its data."""
        for running in self._processes:
            process.end(running, 10)

    def kill(self) -> None:
        """Sends SIGKILL, like a crash. Does nothing if the server has ended."""
        for running in self._processes:
            process.kill(running)
            running.wait()

    def pause(self) -> None:
        """Sends SIGSTOP: it keeps its connections and does not answer, like a server that hangs."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Sends SIGCONT, after `pause`."""
        self._signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        """Returns the process ids while it runs."""
        return [running.pid for running in self._processes]

    def _wait(self, number: int) -> None:
        running = self._processes[number]
        wait_until_ready(self._servers[number], self._start_timeout_s, partial(_runs, running))

    def _signal(self, number: signal.Signals) -> None:
        for running in self._processes:
            os.killpg(running.pid, number)

    def _spawn(self, server: Server) -> "subprocess.Popen[bytes]":
        with (self.data_dir / f"{server.name}.log").open("ab") as output:
            return process.spawn(
                server.command,
                env=os.environ | dict(server.env),
                output=output,
                cwd=server.cwd,
                keep_open=server.keep_open,
            )


def _runs(running: "subprocess.Popen[bytes]") -> bool:
    return running.poll() is None
