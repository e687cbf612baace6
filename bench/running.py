"""Processes to measure, and what they cost: shared by the benchmarks of the gateway."""

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
    """User and system time of a process so far, all its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fine_cpu_s(pid: int) -> float:
    """The same in nanoseconds instead of ticks of 10 ms, without the threads that have ended."""
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e9


@contextmanager
def log(directory: Path) -> Iterator[str]:
    """The embedded log, with its topics; yields its address."""
    with ExitStack() as stack:
        addresses: dict[str, str] = {}
        for server in embedded_log.servers(State(directory)):
            output = stack.enter_context((directory / f"{server.name}.log").open("wb"))
            spawned = process.spawn(server.command, env=os.environ | dict(server.env), output=output, cwd=server.cwd)
            stack.callback(process.end, spawned, 10)
            wait_until_ready(server, 30)
            addresses |= server.addresses
        address = addresses["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"]
        topics.apply(KafkaSettings(bootstrap_servers=address), embedded=True)
        yield address


@contextmanager
def running(command: list[str], variables: Mapping[str, str], output: int | None = None) -> Iterator[int]:
    """A process; yields its id. output: where its standard error goes, as subprocess takes it."""
    started = subprocess.Popen(command, env=os.environ | dict(variables), stderr=output)
    try:
        yield started.pid
    finally:
        started.terminate()
        started.wait(10)


def until_ready(port: int, path: str) -> None:
    """Returns once a server answers there; raises what is wrong when it does not within 20 s."""
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
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def masked(message: Mapping[str, object]) -> bytes:
    """A client's text frame; the mask is all zeros, which leaves the receiver as much to do as any other."""
    text = json.dumps(message).encode()
    length = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
    return b"\x81" + length + bytes(4) + text
