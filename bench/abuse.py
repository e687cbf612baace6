"""Cost of attacks for the gateway and for the attacker: CPU, memory, sockets, and the delay for other clients.

The attacker here is Python on raw sockets. An attacker in C needs less CPU, but as many bytes and sockets. The
time-outs are 3 s instead of the default 10 s, to keep the run short. Meanwhile a bystander requests /healthz again and
again, to measure the delay for a real carrier; its address is exempt from limits. Loopback addresses have the same
limits as any other network here.

    python -m bench.abuse
"""

import asyncio
import base64
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop

from audiotext.embedded.server import LOOPBACK
from bench.gateway import media
from bench.running import fine_cpu_s, free_port, log, masked, running, until_ready
from gateway.carriers.common.signatures import HEADER, sign

TOKEN = "bench"
SIGNED_PATH, UNPROVEN_PATH = "/v1/media/twilio", "/v1/media/vonage"
TIMEOUT_S = 3
BYSTANDER = "127.0.0.1"
FLOOD_S = 5
AT_ONCE = 100  # connections opened at the same time

Row = tuple[str, str, str]
"""The measured thing, the figure, and the value to compare it with."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Effort:
    """Effort of the attacker."""

    sockets: int = 0
    bytes_sent: int = 0
    messages: int = 0


@dataclass
class Effect:
    """Effect on the gateway. memory_mib, descriptors: the largest increase during the attack."""

    memory_mib: float = 0.0
    descriptors: int = 0
    waits_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Idle:
    """CPU per second of the gateway and the bystander without an attack. It is subtracted from every result."""

    gateway: float
    bystander: float


@dataclass(frozen=True)
class Target:
    """Port of the gateway, and the source address for each connection number: a loopback address."""

    port: int
    source: Callable[[int], str]

    async def connect(self, number: int = 0) -> Stream:
        """Opens a connection to the gateway."""
        return await asyncio.open_connection(LOOPBACK, self.port, local_addr=(self.source(number), 0))


Attack = Callable[[Target], Awaitable[Effort]]


def rows() -> list[Row]:
    """Runs every attack, one after the other (about 45 s), and returns their rows."""
    with tempfile.TemporaryDirectory() as directory, log(Path(directory)) as log_variables:
        port = free_port()
        variables = {
            **log_variables,
            "AUDIOTEXT_GATEWAY__PORT": str(port),
            "AUDIOTEXT_GATEWAY__HANDSHAKE_TIMEOUT_S": str(TIMEOUT_S),
            "AUDIOTEXT_GATEWAY__START_TIMEOUT_S": str(TIMEOUT_S),
            "AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET": "a-secret-of-some-length",
            "AUDIOTEXT_GATEWAY__UNLIMITED_PEERS": json.dumps([f"{BYSTANDER}/32"]),
            "AUDIOTEXT_TWILIO__AUTH_TOKEN": TOKEN,
            "AUDIOTEXT_VONAGE__SIGNATURE_SECRET": "a-secret-of-some-length",
        }
        run = "from core.settings import load; from gateway.app import run; run(load())"
        with running([sys.executable, "-c", run], variables, subprocess.DEVNULL) as gateway:
            until_ready(port, "/readyz")
            # A first run without measurement, for the memory that is allocated only once.
            uvloop.run(_forged_sockets(Target(port, lambda _: BYSTANDER)))
            idle = _idle(gateway, port)
            found = []
            for number, (name, attack, spread) in enumerate(ATTACKS):
                target = Target(port, partial(_own_address if spread else _one_address, number))
                found.append(_measured(name, gateway, idle, target, attack))
                time.sleep(1)  # for sockets that are still closing
            return found


def _one_address(attack: int, _connection: int) -> str:
    """Returns one address for all connections of this attack. It has never authenticated."""
    return f"127.1.{attack}.1"


def _own_address(attack: int, connection: int) -> str:
    """Returns a different address for each connection."""
    return f"127.{2 + attack}.{connection // 250}.{1 + connection % 250}"


def _idle(pid: int, port: int) -> Idle:
    """Measures two seconds in which only the bystander sends requests."""
    began, ours, theirs = time.monotonic(), fine_cpu_s(pid), time.process_time()
    with _observed(pid, port):
        time.sleep(2)
    took = time.monotonic() - began
    return Idle((fine_cpu_s(pid) - ours) / took, (time.process_time() - theirs) / took)


def _measured(name: str, pid: int, idle: Idle, target: Target, attack: Attack) -> Row:
    began, ours, theirs = time.monotonic(), fine_cpu_s(pid), time.process_time()
    with _observed(pid, target.port) as effect:
        effort = uvloop.run(_timed(attack, target))
    took = time.monotonic() - began
    ours = max(0.0, fine_cpu_s(pid) - ours - idle.gateway * took)
    theirs = max(0.0, time.process_time() - theirs - idle.bystander * took)
    waits = sorted(effect.waits_ms)
    each = f", {ours * 1e6 / effort.messages:.0f} µs a message" if effort.messages else ""
    return (
        f"abuse: {name}",
        f"gateway {ours * 1000:.0f} ms CPU{each}, +{effect.memory_mib:.0f} MiB, {effect.descriptors} sockets held; "
        f"others wait {waits[len(waits) // 2]:.0f} ms, at most {waits[-1]:.0f} ms",
        f"attacker {theirs * 1000:.0f} ms CPU, {effort.bytes_sent / 1e6:.1f} MB sent, {effort.sockets} sockets opened",
    )


async def _timed(attack: Attack, target: Target) -> Effort:
    async with asyncio.timeout(60):
        return await attack(target)


@contextmanager
def _observed(pid: int, port: int) -> Iterator[Effect]:
    """Observes the gateway during the attack, from a separate thread."""
    effect, over = Effect(), threading.Event()
    memory, descriptors = _memory_mib(pid), _descriptors(pid)

    def watch() -> None:
        client = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
        while not effect.waits_ms or not over.wait(0.02):
            began = time.perf_counter()
            client.request("GET", "/healthz")
            client.getresponse().read()
            effect.waits_ms.append((time.perf_counter() - began) * 1000)
            effect.memory_mib = max(effect.memory_mib, _memory_mib(pid) - memory)
            effect.descriptors = max(effect.descriptors, _descriptors(pid) - descriptors - 1)
        client.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield effect
    finally:
        over.set()
        thread.join()


async def _silent(target: Target) -> Effort:
    """Opens 3000 silent connections and waits until the gateway has closed them all."""
    return await _each(target, 3000, b"", _until_closed)


async def _slow_loris(target: Target) -> Effort:
    """Opens 1000 connections that send a request at one byte a second."""

    async def trickle(stream: Stream) -> int:
        sent = 0
        with suppress(ConnectionError):
            while not stream[0].at_eof():
                stream[1].write(b"x")
                sent += 1
                with suppress(TimeoutError):
                    await asyncio.wait_for(stream[0].read(1), timeout=1)
        return sent

    return await _each(target, 1000, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", trickle)


async def _never_start(target: Target) -> Effort:
    """Opens 2000 media sockets without authentication that never start."""
    return await _each(target, 2000, _upgrade(target.port, UNPROVEN_PATH), _until_closed)


async def _invalid_messages(target: Target, seconds: float = 0) -> Effort:
    """Sends invalid messages on 20 such sockets as fast as possible, reconnecting for `seconds`."""
    return await _floods(target, UNPROVEN_PATH, seconds, lambda: b"", masked({"event": "x", "y": "z" * 150}))


async def _frames(target: Target, seconds: float = 0) -> Effort:
    """Sends audio on 20 signed media sockets as fast as possible, reconnecting for `seconds`."""
    return await _floods(target, SIGNED_PATH, seconds, _start, masked(media(0)))


def _start() -> bytes:
    body = {
        "callSid": f"CA{time.time_ns()}",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    return masked({"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": body})


async def _oversized(target: Target) -> Effort:
    """Sends a message of 10 MB on each of 300 signed media sockets."""
    head = b"\x81\xff" + (10_000_000).to_bytes(8, "big") + bytes(4)

    async def send(stream: Stream) -> int:
        sent = len(head)
        await stream[0].readuntil(b"\r\n\r\n")
        stream[1].write(head)
        with suppress(ConnectionError):
            while sent < 10_000_000 and not stream[0].at_eof():
                stream[1].write(bytes(16384))
                await stream[1].drain()
                sent += 16384
                await asyncio.sleep(0)
        return sent

    return await _each(target, 300, _upgrade(target.port, SIGNED_PATH), send)


async def _forged_sockets(target: Target) -> Effort:
    """Sends 3000 upgrades with wrong signatures, each on its own connection."""
    request = _upgrade(target.port, SIGNED_PATH, "bm90IHRoaXM=")

    effort = await _each(target, 3000, request, _answered)
    effort.messages = 3000
    return effort


async def _large_webhooks(target: Target) -> Effort:
    """Sends 1000 webhooks of 60 kB with wrong signatures. A refusal closes the connection."""
    return await _forged_webhooks(target, 1000, 60_000)


async def _small_webhooks(target: Target) -> Effort:
    """Sends 3000 webhooks of the usual size with wrong signatures."""
    return await _forged_webhooks(target, 3000, 300)


async def _forged_webhooks(target: Target, count: int, size: int) -> Effort:
    body = b"a=" + b"x" * size
    head = (
        f"POST /v1/status/twilio HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"{HEADER}: bm90IHRoaXM=\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()

    effort = await _each(target, count, head + body, _answered)
    effort.messages = count
    return effort


# The third value: each connection has its own source address.
ATTACKS: list[tuple[str, Attack, bool]] = [
    ("3000 silent connections", _silent, False),
    ("1000 requests, a byte a second", _slow_loris, False),
    ("2000 sockets that never start", _never_start, False),
    ("20 sockets with invalid messages", _invalid_messages, False),
    ("20 streams far too fast", _frames, False),
    (
        f"sockets with invalid messages, 20 at a time for {FLOOD_S} s",
        partial(_invalid_messages, seconds=FLOOD_S),
        False,
    ),
    (f"streams far too fast, 20 at a time for {FLOOD_S} s", partial(_frames, seconds=FLOOD_S), False),
    ("300 messages of 10 MB", _oversized, False),
    ("3000 forged upgrades", _forged_sockets, False),
    ("1000 forged webhooks of 60 kB", _large_webhooks, False),
    ("3000 forged upgrades from 3000 addresses", _forged_sockets, True),
    ("3000 forged webhooks from 3000 addresses", _small_webhooks, True),
]


async def _each(target: Target, count: int, opening: bytes, then: Callable[[Stream], Awaitable[int]]) -> Effort:
    """Opens `count` connections and sends `opening` on each. `then` returns the number of further bytes it sent."""
    effort = Effort(sockets=count)
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            stream = await target.connect(number)
            stream[1].write(opening)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            more = await then(stream)
            effort.bytes_sent += len(opening) + more
        stream[1].close()

    await asyncio.gather(*(one(number) for number in range(count)))
    return effort


async def _answered(stream: Stream) -> int:
    answer = await stream[0].readuntil(b"\r\n\r\n")
    assert answer.split(b" ", 2)[1] in (b"403", b"429", b"503"), answer
    return 0


async def _until_closed(stream: Stream) -> int:
    while await stream[0].read(4096):
        pass
    return 0


async def _floods(target: Target, path: str, seconds: float, start: Callable[[], bytes], message: bytes) -> Effort:
    """Floods the gateway from 20 sockets, and from new ones after those, for `seconds`.

    Each sends the start, then the message again and again, until the gateway closes it.
    """
    effort = Effort()
    batch, upgrade = message * 100, _upgrade(target.port, path)
    until = time.monotonic() + seconds

    async def one() -> None:
        effort.sockets += 1
        reader, writer = await target.connect()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(upgrade)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(start())
            closed = asyncio.ensure_future(_until_closed((reader, writer)))
            with suppress(ConnectionError):
                while not closed.done():
                    writer.write(batch)
                    await writer.drain()
                    await asyncio.sleep(0)
                    effort.bytes_sent += len(batch)
                    effort.messages += 100
            writer.close()
            await closed
        writer.close()

    async def again_and_again() -> None:
        await one()
        while time.monotonic() < until:
            await one()

    await asyncio.gather(*(again_and_again() for _ in range(20)))
    return effort


def _upgrade(port: int, path: str, signature: str = "") -> bytes:
    signature = signature or sign(TOKEN, f"ws://{LOOPBACK}:{port}{path}")
    return (
        f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
        f"{HEADER}: {signature}\r\n\r\n"
    ).encode()


def _memory_mib(pid: int) -> float:
    """Returns the resident memory of a process (MiB)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


if __name__ == "__main__":
    for what, figure, beside in rows():
        print(f"| {what} | {figure} | {beside} |")
