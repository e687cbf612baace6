"""CPU per 20 ms frame: the gateway (signature, parsing, merging, the real embedded log) against a bare receiver.

The bare receiver is aiohttp on uvloop, and only counts messages: the minimum cost of a Python gateway on this library.
Both get the same load from the same generator in one run, in turns. So the ratio is reliable on a busy machine, where
the absolute figures are not. CPU is that of the whole process, with the threads of the log client.

    python -m bench.gateway
"""

import asyncio
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from aiohttp import WSMsgType, web

from audiotext.embedded.server import LOOPBACK
from bench.running import cpu_s, free_port, log, masked, running, until_ready
from gateway.carriers.common.signatures import HEADER, sign

SOCKETS = 100
SPEED = 2  # times real time: 20,000 frames a second, two packets every 10 ms on each socket
FRAMES = 60_000  # on all sockets together in one round: 3 s
ROUNDS = 3
PATH = "/v1/media/twilio"
TOKEN = "bench"

Row = tuple[str, str, str]
"""The measured thing, the figure, and the value to compare it with."""


def rows() -> list[Row]:
    """Runs the benchmark (about 25 s) and returns its rows."""
    with tempfile.TemporaryDirectory() as directory, log(Path(directory)) as log_variables:
        port, bare_port = free_port(), free_port()
        variables = {
            **log_variables,
            "AUDIOTEXT_GATEWAY__PORT": str(port),
            "AUDIOTEXT_TWILIO__AUTH_TOKEN": TOKEN,
        }
        run = "from core.settings import load; from gateway.app import run; run(load())"
        with (
            running([sys.executable, "-c", run], variables) as gateway,
            running([sys.executable, "-m", "bench.gateway", "bare", str(bare_port)], {}) as bare,
        ):
            until_ready(port, "/readyz")
            until_ready(bare_port, "/healthz")
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(_cpu_per_frame(gateway, port))
                theirs.append(_cpu_per_frame(bare, bare_port))
    own, other = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return [
        ("gateway: CPU per 20 ms frame", f"{own:.1f} µs", f"bare aiohttp receiver {other:.1f} µs"),
        ("gateway: CPU beside a bare receiver", f"{ratio:.2f} x", f"{ROUNDS} rounds in turns, median"),
    ]


def _cpu_per_frame(pid: int, port: int) -> float:
    """Returns the process's CPU per frame (µs) in one round of load."""
    before = cpu_s(pid)
    sent = uvloop.run(_load(port))
    return (cpu_s(pid) - before) * 1e6 / sent


async def _load(port: int) -> int:
    """Plays one round of calls on all sockets at once. Returns the number of frames.

    The frames are built beforehand and written raw, so that the generator costs less than the gateway.
    """
    frames_per_socket = FRAMES // SOCKETS
    messages = [masked(media(number)) for number in range(frames_per_socket)]
    sockets = [await _dial(port, number) for number in range(SOCKETS)]
    started = time.monotonic()
    for number in range(0, frames_per_socket, 2):
        delay = started + number / 2 * 0.020 / SPEED - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        for _, writer in sockets:
            writer.write(messages[number])
            writer.write(messages[number + 1])
    for _, writer in sockets:
        writer.write(masked({"event": "stop", "sequenceNumber": "0", "streamSid": "MZ1"}))
        writer.write(b"\x88\x80" + bytes(4))
    for reader, writer in sockets:
        await reader.read()  # the close frame, then the end: the gateway has read everything
        writer.close()
    return frames_per_socket * SOCKETS


async def _dial(port: int, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Opens a media socket and sends connected and start."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: {LOOPBACK}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
        f"{HEADER}: {sign(TOKEN, f'ws://{LOOPBACK}:{port}{PATH}')}\r\n\r\n".encode()
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in answer.partition(b"\r\n")[0], answer
    body = {
        "callSid": f"CA{time.time_ns()}-{number}",
        "tracks": ["inbound", "outbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    writer.write(masked({"event": "connected"}))
    writer.write(masked({"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": body}))
    return reader, writer


def media(number: int) -> dict[str, object]:
    """Returns message number `number`, from 0, of a Twilio stream with two tracks."""
    frame = number // 2
    body = {
        "track": ("inbound", "outbound")[number % 2],
        "chunk": str(frame + 1),
        "timestamp": str(frame * 20),
        "payload": base64.b64encode(frame.to_bytes(4, "big") * 40).decode(),
    }
    return {"event": "media", "sequenceNumber": str(number + 2), "streamSid": "MZ1", "media": body}


def _bare(port: int) -> None:
    """Runs the bare receiver."""
    counted = 0

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text=str(counted))

    async def media(request: web.Request) -> web.WebSocketResponse[bool]:
        nonlocal counted
        receiver = web.WebSocketResponse(compress=False)
        await receiver.prepare(request)
        async for message in receiver:
            if message.type is WSMsgType.TEXT:
                counted += 1
        return receiver

    app = web.Application()
    app.add_routes([web.get(PATH, media), web.get("/healthz", healthz)])
    uvloop.install()
    web.run_app(app, host=LOOPBACK, port=port, access_log=None, print=None)


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        _bare(int(sys.argv[2]))
    else:
        for what, figure, beside in rows():
            print(f"| {what} | {figure} | {beside} |")
