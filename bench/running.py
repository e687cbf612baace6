"""Helpers of the gateway's benchmarks: start processes and measure their cost."""

import json
import os
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError

from audiotext.embedded import log as embedded_log
from audiotext.embedded.server import LOOPBACK, wait_until_ready
from audiotext.embedded.state import State
from core import process
from core.settings import KafkaSettings
from redpanda import topics


def cpu_s(pid: int) -> float:
    """Returns the user and system time of a process and all its threads so far (s)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fine_cpu_s(pid: int) -> float:
    """Returns the same with nanosecond precision instead of 10 ms ticks, without threads that have ended."""
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e9


@contextmanager
def log(directory: Path) -> Iterator[dict[str, str]]:
    """Starts the embedded log with its topics. Yields the variables with which a process connects to it."""
    with ExitStack() as stack:
        addresses: dict[str, str] = {}
        for server in embedded_log.servers(State(directory)):
            output = stack.enter_context((directory / f"{server.name}.log").open("wb"))
            spawned = process.spawn(
                server.command,
                env=os.environ | dict(server.env),
                output=output,
                cwd=server.cwd,
                keep_open=server.keep_open,
            )
            stack.callback(process.end, spawned, 10)
            wait_until_ready(server, 30)
            addresses |= server.addresses
        topics.apply(kafka_settings(addresses), embedded=True)
        yield addresses


def kafka_settings(variables: Mapping[str, str]) -> KafkaSettings:
    """Returns the settings in the AUDIOTEXT_KAFKA__… variables of an embedded log."""
    prefix = "AUDIOTEXT_KAFKA__"
    fields = {name.removeprefix(prefix).lower(): value for name, value in variables.items() if name.startswith(prefix)}
    return KafkaSettings.model_validate(fields)


@contextmanager
def running(command: list[str], variables: Mapping[str, str], output: int | None = None) -> Iterator[int]:
    """Starts a process. Yields its id. output: the target of its standard error, as for subprocess."""
    started = subprocess.Popen(command, env=os.environ | dict(variables), stderr=output)
    try:
        yield started.pid
    finally:
        started.terminate()
        started.wait(10)


def until_ready(port: int, path: str) -> None:
    """Waits until a server answers. Raises its last error after 20 s."""
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=2).close()
            return
        except (URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def free_port() -> int:
    """Returns a free port."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def masked(message: Mapping[str, object]) -> bytes:
    """Returns a client's text frame. The mask is all zeros, which costs the receiver as much as any other mask."""
    text = json.dumps(message).encode()
    length = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
    return b"\x81" + length + bytes(4) + text
