"""Tests of the limits on new connections: connections without a request, floods, and malformed HTTP."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from core.settings import GatewaySettings, KafkaSettings, Settings
from gateway import app
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.app import Gateway
from gateway.carriers.common.signatures import HEADER, sign
from gateway.media import websocket_server
from gateway.metrics import Metrics
from gateway.protection import http_handler, log_rate_limit
from gateway.protection.client_limiter import MAX_FLOODS, ClientLimiter
from gateway.protection.connection_guard import ConnectionGuard
from gateway.protection.request_prefilter import RequestPrefilter
from tests.gateway.conftest import settings_for
from tests.support.ids import new_call
from tests.support.twilio_messages import PUBLIC_URL, TOKEN, media, start

MEDIA = "/v1/media/twilio"
SECOND = media(0, octet=1).decode().replace('"payload": "', '"payload": "' + "AAAA" * 2_667)  # of audio


async def test_connections_without_a_request_are_closed() -> None:
    """Opens three connections: one sends nothing, one half a request, one a whole request. Only the last may stay open.

    Half-open connections are the cheapest way to use up a server's file descriptors.
    """
    metrics = Metrics()
    guard = _guard(metrics, handshake_timeout_s=0.2)
    app = web.Application(middlewares=[guard.middleware])
    app.router.add_get("/", _hello)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(guard.factory(runner.server), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent, slow, good = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    slow[1].write(b"GET / HTTP/1.1\r\nHost: x\r\nX-")
    good[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"hello" in await good[0].readuntil(b"hello")
    async with asyncio.timeout(5):
        for reader, _ in (silent, slow):
            assert await _ended(reader)
    good[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"hello" in await good[0].readuntil(b"hello")
    assert b'refused_sockets_total{reason="handshake"} 2.0' in metrics.render()
    for _, writer in (silent, slow, good):
        writer.close()
    server.close()
    await runner.cleanup()


async def test_oldest_idle_connection_is_closed_first() -> None:
    """Opens one idle connection more than allowed: the oldest must be closed, and a request must be answered.

    Otherwise a flood of idle connections could use up the file descriptors before the handshake timeout.
    """
    metrics = Metrics()
    guard = _guard(metrics, max_idle=2, handshake_timeout_s=600)
    app = web.Application(middlewares=[guard.middleware])
    app.router.add_get("/", _hello)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(guard.factory(runner.server), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    async with asyncio.timeout(60):
        assert await _ended(connections[0][0])
    reader, writer = connections[2]
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"hello" in await reader.readuntil(b"hello")
    assert b'refused_sockets_total{reason="handshake"} 1.0' in metrics.render()
    for _, writer in connections:
        writer.close()
    server.close()
    await runner.cleanup()


async def test_requests_over_the_limit_are_rejected(kafka: KafkaSettings) -> None:
    """Sends requests over the limit of three from one address to a real gateway.

    A forged upgrade must get 403, the fourth request 429, and later connections must be closed without a response.
    Signed upgrades from another address must succeed meanwhile. Otherwise a flood costs the gateway more than the
    sender.
    """
    settings = settings_for(kafka, max_stranger_requests=3, unlimited_peers=[])
    async with _served(settings) as port:
        url = f"http://127.0.0.1:{port}"
        signed = {HEADER: sign(TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)}
        async with _from("127.0.0.66") as flood, _from("127.0.0.1") as carrier:
            async with flood.get(url + MEDIA, headers={HEADER: "bm90IHRoaXM="}) as forged:
                assert forged.status == 403
            answers = [await flood.get(url + "/healthz") for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 429]
            assert "AUDIOTEXT_GATEWAY__MAX_STRANGER_REQUESTS" in await answers[2].text()
            assert answers[2].headers["Retry-After"] == "10"
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.66", 0))
                assert await _ended(reader)
                writer.close()
            for _ in range(5):
                async with carrier.ws_connect(url + MEDIA, headers=signed):
                    pass
            async with carrier.get(url + "/metrics") as answer:
                assert "audiotext_gateway_flood_total 21.0" in await answer.text()


@pytest.mark.parametrize("call_between", [False, True])
async def test_signed_sockets_that_flood_block_their_address(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, *, call_between: bool
) -> None:
    """Sends audio far too fast on three signed sockets in a row.

    Each must be closed, and new connections of the address must be closed without a response. With a call of normal
    speed between them, the address must not be blocked, because it may be a carrier's. (The test reduces the minimum
    duration of a normal call from 10 s to 0.)
    """
    monkeypatch.setattr(websocket_server, "_CALL_S", 0.0)
    settings = settings_for(kafka, max_speed=1, unlimited_peers=[])
    async with _served(settings) as port:
        url = f"http://127.0.0.1:{port}{MEDIA}"
        signed = {HEADER: sign(TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)}

        async def stream(client: aiohttp.ClientSession, seconds: int) -> int:
            """A call with so much audio at once; the code it is closed with."""
            async with client.ws_connect(url, headers=signed) as socket:
                await socket.send_str(start(new_call()).decode())
                for _ in range(seconds):
                    await socket.send_str(SECOND)
                if seconds == 1:
                    await socket.close()
                while (await socket.receive()).type != aiohttp.WSMsgType.CLOSED:
                    pass
                return socket.close_code or 0

        async with _from("127.0.0.66") as flood, _from("127.0.0.1") as carrier:
            for number in range(MAX_FLOODS):
                if call_between and number == MAX_FLOODS - 1:
                    assert await stream(flood, 1) == aiohttp.WSCloseCode.OK
                assert await stream(flood, 40) == aiohttp.WSCloseCode.POLICY_VIOLATION
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.66", 0))
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if call_between:
                    assert b"200 OK" in await reader.readline()
                else:
                    assert await _ended(reader)
                writer.close()
            assert await stream(carrier, 1) == aiohttp.WSCloseCode.OK


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v1/media/twilio\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/calls/ä HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"GET / HTTP/1.1\r\nHost: x\r\nNo Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"\x16\x03\x01 hello\r\n\r\n",
    ],
)
async def test_malformed_http_gives_json_and_one_log_line(
    data: bytes, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Sends malformed HTTP thirty times.

    Each response must be JSON, and the log must contain a few lines without stack trace and without the received bytes.
    Otherwise any client can fill the disk.
    """
    async with _served(settings_for(kafka)) as port:
        with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO):
            patch.setattr(
                http_handler,
                "_warnings",
                log_rate_limit.RateLimitedLogger(logging.getLogger("gateway.protection.http_handler")),
            )
            for _ in range(30):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data)
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.0 400 Bad Request\r\nContent-Type: application/json")
                assert json.loads(body)["error"].startswith("malformed HTTP request")
                writer.close()
    logged = [
        record for record in caplog.records if record.name in ("gateway.protection.http_handler", "aiohttp.server")
    ]
    assert len(logged) == log_rate_limit.MAX_WARNINGS
    assert all(record.levelname == "WARNING" and record.exc_info is None for record in logged)
    assert all(len(record.getMessage()) < 100 for record in logged)


@contextlib.asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[int]:
    """Serves a gateway with its connection guard; yields its port."""
    gateway = Gateway(settings)
    runner = app.create_runner(gateway)
    await runner.setup()
    connected = app.connection_factory(gateway, runner)
    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()


def _from(address: str) -> aiohttp.ClientSession:
    """Returns a client with this loopback address."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def _guard(metrics: Metrics, *, max_idle: int = 1000, **limits: object) -> ConnectionGuard:
    settings = Settings(gateway=GatewaySettings.model_validate(limits))
    limiter = ClientLimiter(settings.gateway)
    prefilter = RequestPrefilter({}, StreamAuthorizer(settings, limiter), limiter, metrics, lambda: False)
    return ConnectionGuard(settings, limiter, metrics, prefilter, max_idle)
