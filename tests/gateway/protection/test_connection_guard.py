"""New connections: those that make no request, and those of whom asks too much."""

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
from gateway.protection.client_limiter import MOST_FLOODS, ClientLimiter
from gateway.protection.connection_guard import ConnectionGuard
from gateway.protection.request_prefilter import RequestPrefilter
from tests.gateway.conftest import settings_for
from tests.gateway.wire import PUBLIC_URL, TOKEN, media, new_call, start

MEDIA = "/v1/media/twilio"
SECOND = media(0, octet=1).decode().replace('"payload": "', '"payload": "' + "AAAA" * 2_667)  # of audio


async def test_who_asks_for_nothing_is_hung_up_on() -> None:
    """Opens three connections: one says nothing, one sends half a request, one asks and stays: only that one lives on.
    Half-open connections are the cheapest way to use up a server's descriptors."""
    metrics = Metrics()
    door = _door(metrics, handshake_timeout_s=0.2)
    app = web.Application(middlewares=[door.middleware])
    app.router.add_get("/", _hello)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(door.factory(runner.server), "127.0.0.1", 0)
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


async def test_of_too_many_the_oldest_goes_first() -> None:
    """Opens one silent connection more than there may be: the one that was silent longest is closed at once, and who
    asks is answered. Otherwise a flood of them would use up the descriptors within the time each may be silent."""
    metrics = Metrics()
    door = _door(metrics, most_silent=2, handshake_timeout_s=600)
    app = web.Application(middlewares=[door.middleware])
    app.router.add_get("/", _hello)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(door.factory(runner.server), "127.0.0.1", 0)
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


async def test_who_floods_is_not_listened_to(kafka: KafkaSettings) -> None:
    """An address, of which three requests are taken, floods a real gateway: a forged upgrade is forbidden; of requests
    on one connection the fourth is told that it is one too many; all further connections are closed before they say a
    word. Another address brings call after call meanwhile, since what it brings is signed. Each refusal costs as much
    as any request: without this a flood would cost us more than who makes it."""
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
async def test_who_floods_signed_sockets_is_not_listened_to(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, *, call_between: bool
) -> None:
    """An address that knows our secret sends audio far too fast on three sockets, one after the other: each is cut off,
    and its next connections are closed before they say a word. Until it is cut off such a socket costs us ten times
    what it costs who floods. If a call of usual speed comes between, it is a carrier's address and goes on: what others
    do there may not have our calls refused. (That a call takes ten seconds is left out here.)"""
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
            for number in range(MOST_FLOODS):
                if call_between and number == MOST_FLOODS - 1:
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
    "octets",
    [
        b"GET /v1/media/twilio\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/calls/ä HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"GET / HTTP/1.1\r\nHost: x\r\nNo Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"\x16\x03\x01 hello\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_a_line_and_not_a_trace(
    octets: bytes, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Sends thirty times what is no HTTP request: each is answered in JSON, as everything is, and the log has a few
    lines without a stack trace or what was sent. Else whoever likes fills the disk with them, and the terminal."""
    async with _served(settings_for(kafka)) as port:
        with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO):
            patch.setattr(
                http_handler,
                "_refusals",
                log_rate_limit.RateLimitedLogger(logging.getLogger("gateway.protection.http_handler")),
            )
            for _ in range(30):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(octets)
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.0 400 Bad Request\r\nContent-Type: application/json")
                assert json.loads(body)["error"].startswith("that is no HTTP request")
                writer.close()
    told = [record for record in caplog.records if record.name in ("gateway.protection.http_handler", "aiohttp.server")]
    assert len(told) == log_rate_limit.MOST
    assert all(record.levelname == "WARNING" and record.exc_info is None for record in told)
    assert all(len(record.getMessage()) < 100 for record in told)


@contextlib.asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[int]:
    """A gateway with its door, and its port."""
    gateway = Gateway(settings)
    runner = app.runner_of(gateway)
    await runner.setup()
    connected = app.connections_of(gateway, runner)
    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()


def _from(address: str) -> aiohttp.ClientSession:
    """A client at this address of loopback."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def _door(metrics: Metrics, *, most_silent: int = 1000, **limits: object) -> ConnectionGuard:
    settings = Settings(gateway=GatewaySettings.model_validate(limits))
    strangers = ClientLimiter(settings.gateway)
    first_look = RequestPrefilter({}, StreamAuthorizer(settings, strangers), strangers, metrics, lambda: False)
    return ConnectionGuard(settings, strangers, metrics, first_look, most_silent)
