"""Acceptance test of the running stack under slow, silent and malformed requests."""

import asyncio
import contextlib
import io
import resource
import socket
import time
import uuid
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.g711 import ULAW_DECODE
from gateway.simulator import Played, play
from tests.support.demo_calls import demo_call
from tests.support.up_process import ADMIN_KEY, TWILIO_TOKEN, UpProcess

pytestmark = [pytest.mark.server, pytest.mark.alone, pytest.mark.timeout(240)]

SLOW_BODIES = 1_100
SILENT = 2_000
MALFORMED_PER_S = 300
LOAD_S = 20.0
MAX_P99_S = 1.0
MAX_LOG_BYTES_PER_MINUTE = 100_000
_SLOW = b"POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
_MALFORMED = b"GET http://e/v1/media/twilio HTTP/1.1\r\nHost: x\r\nX-Twilio-Signature: x\r\n\r\n"


def test_a_call_and_the_api_survive_the_load(tmp_path: Path) -> None:
    """Plays a call in real time while 1,100 clients send bodies slowly, 2,000 send nothing, and 300 requests per second
    are malformed.

    The API must answer within a second (p99), the recording must equal the call by sample, and the logs must grow by
    less than 100 kB per minute. A failure means that clients without credentials can stop the service or fill the disk.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    call = demo_call("broadband_outage")
    audio = tmp_path / "call.flac"
    soundfile.write(audio, call.samples[: int(LOAD_S) * call.rate_hz], call.rate_hz, subtype="PCM_16")
    up = UpProcess(tmp_path / "data", {"AUDIOTEXT_STT__MODEL": "tiny.en"})
    up.start()
    try:
        before = _log_bytes(up)
        began = time.monotonic()
        played, waits_s = asyncio.run(_load(up, audio))
        minutes = (time.monotonic() - began) / 60
        grown = (_log_bytes(up) - before) / minutes
        document = up.wait_for(played.call_id, "recorded", "transcribed", "summarized", "complete")
        p99 = sorted(waits_s)[int(len(waits_s) * 0.99)]
        print(f"{len(waits_s)} requests, p99 {p99 * 1000:.0f} ms, longest {max(waits_s) * 1000:.0f} ms")
        print(f"logs: {grown / 1000:.1f} kB per minute")
        _expect_exact(up, played)
        assert [track["gaps"] for track in document["tracks"]] == [[], []]
        assert len(waits_s) > LOAD_S
        assert p99 < MAX_P99_S
        assert grown < MAX_LOG_BYTES_PER_MINUTE
    finally:
        if up.running:
            up.stop()


async def _load(up: UpProcess, audio: Path) -> tuple[Played, list[float]]:
    """Plays the call under the load. Returns the call, and the time that each request to the API took (s)."""
    waits_s: list[float] = []
    load = [
        asyncio.create_task(_hold(up.port, SLOW_BODIES, _SLOW, b" ")),
        asyncio.create_task(_hold(up.port, SILENT, b"", b"")),
        asyncio.create_task(_send_malformed(up.port)),
    ]
    await asyncio.sleep(3)
    load.append(asyncio.create_task(_measure(up.port, waits_s)))
    played = await play(
        audio,
        url=up.media_url,
        auth_token=TWILIO_TOKEN,
        public_url=up.url,
        call_id=f"CA{uuid.uuid4().hex}",
        speed=1,
    )
    for task in load:
        if task.done():
            task.result()  # raises the error that ended the load early
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    return played, waits_s


async def _hold(port: int, count: int, opening: bytes, further: bytes) -> None:
    """Keeps `count` connections open: a connection that the gateway closes is replaced within a second.

    Each sends the opening, and `further` every second.
    """
    loop = asyncio.get_running_loop()
    held: list[socket.socket] = []
    try:
        while True:
            alive = []
            for number, one in enumerate(held):
                if _is_open(one, further):
                    alive.append(one)
                else:
                    one.close()
                if number % 100 == 0:
                    await asyncio.sleep(0)
            held = alive
            for _ in range(count - len(held)):
                one = socket.socket()
                one.setblocking(False)
                with contextlib.suppress(OSError):
                    await loop.sock_connect(one, ("127.0.0.1", port))
                    await loop.sock_sendall(one, opening)
                held.append(one)
            await asyncio.sleep(1)
    finally:
        for one in held:
            one.close()


def _is_open(one: socket.socket, further: bytes) -> bool:
    """Sends `further` and returns True if the other end has not closed the connection."""
    try:
        if further:
            one.send(further)
        return one.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


async def _send_malformed(port: int) -> None:
    """Sends malformed requests at the given rate, each on its own connection."""
    loop = asyncio.get_running_loop()
    next_at = loop.time()
    while True:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, _MALFORMED)
        next_at += 1 / MALFORMED_PER_S
        await asyncio.sleep(max(0.0, next_at - loop.time()))


async def _measure(port: int, waits_s: list[float]) -> None:
    """Requests the list of calls ten times per second, each time on a new connection, and adds the time it takes."""
    request = (
        f"GET /v1/calls?limit=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    while True:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
        waits_s.append(time.monotonic() - began)
        await asyncio.sleep(0.1)


def _expect_exact(up: UpProcess, played: Played) -> None:
    """Compares the recording with the decoding of the frames that were sent, by sample."""
    status, body = up.get(f"/v1/calls/{played.call_id}/recording")
    assert status == 200
    with wave.open(io.BytesIO(body)) as file:
        recorded = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    origin = min(frames[0].ts_ms for frames in played.tracks.values())
    for channel, name in enumerate(("inbound", "outbound")):
        expected = np.zeros(len(recorded), np.int16)
        for frame in played.tracks[name]:
            start = (frame.ts_ms - origin) * 8
            expected[start : start + len(frame.payload)] = ULAW_DECODE[np.frombuffer(frame.payload, np.uint8)]
        np.testing.assert_array_equal(recorded[:, channel], expected)


def _log_bytes(up: UpProcess) -> int:
    """Returns the size of all logs, with the output of `audiotext up`."""
    files = [*(up.data_dir / "logs").rglob("*"), up.data_dir.parent / f"{up.data_dir.name}.out"]
    return sum(path.stat().st_size for path in files if path.is_file())
