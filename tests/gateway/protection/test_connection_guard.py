"""Tests of the limits on connections and requests: slow or missing requests, floods, and malformed HTTP."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from api.errors import ErrorResponse
from core import http_server
from core.settings import GatewaySettings, KafkaSettings, Settings
from gateway import app
from gateway.app import Gateway
from gateway.carriers.common.signatures import HEADER, sign
from gateway.media import websocket_server
from gateway.metrics import Metrics
from gateway.protection.client_limiter import MAX_FLOODS, ClientLimiter
from gateway.protection.connection_guard import ConnectionGuard
from tests.gateway.conftest import settings_for
from tests.support.ids import new_call
from tests.support.media_requests import upgrade
from tests.support.twilio_messages import PUBLIC_URL, TOKEN, media, start
from tests.support.webhook_requests import TWILIO_TOKEN, WITH_WEBHOOKS, end_fields, request
from tests.support.webhook_settings import settings_with_every_carrier

MEDIA = "/v1/media/twilio"
SECOND = media(0, octet=1).decode().replace('"payload": "', '"payload": "' + "AAAA" * 2_667)  # of audio


async def test_connections_without_a_request_are_closed() -> None:
    """Opens three connections: one sends nothing, one half a request, one a whole request. Only the last may stay open.

    Half-open connections are the cheapest way to use up a server's file descriptors.
    """
    metrics = Metrics()
    guard = _guard(metrics, handshake_timeout_s=0.2)
    application = web.Application(middlewares=[guard.middleware])
    application.router.add_get("/", _hello)
    runner = web.AppRunner(application)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(guard.factory(runner), "127.0.0.1", 0)
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
    guard = _guard(metrics, max_pending=2, handshake_timeout_s=600)
    application = web.Application(middlewares=[guard.middleware])
    application.router.add_get("/", _hello)
    runner = web.AppRunner(application)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(guard.factory(runner), "127.0.0.1", 0)
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


@pytest.mark.parametrize("target", ["http://e/v1/media/twilio", "example.com:443", "*"])
async def test_a_target_that_is_not_a_path_is_refused(kafka: KafkaSettings, target: str) -> None:
    """Sends a request with the target form of a proxy to a real gateway, with the header of a signed socket.

    The answer must be 400. Otherwise the signature is checked for a URL that is not ours, and each such request causes
    an exception with a stack trace in the log.
    """
    async with _served(settings_for(kafka)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        method = "OPTIONS" if target == "*" else "GET"
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{HEADER}: x\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.split(b" ")[1] == b"400"
    assert b'"code":"malformed"' in answer


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
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"\x16\x03\x01 hello\r\n\r\n",
    ],
)
async def test_malformed_http_gives_json_and_one_log_line(
    data: bytes, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Sends malformed HTTP three times.

    Each response must be JSON, and each line of the log must be without stack trace and without the received bytes.
    Otherwise any client can fill the disk.
    """
    async with _served(settings_for(kafka)) as port:
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                head, _, body = (await _raw(port, data)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.0 400 Bad Request\r\n")
                assert b"\r\nContent-Type: application/json" in head
                error = ErrorResponse.model_validate_json(body).error  # as the OpenAPI document describes it
                assert (error.code, error.message.startswith("malformed HTTP request")) == ("malformed", True)
    logged = [record for record in caplog.records if record.name in ("core.http_server", "aiohttp.server")]
    assert len(logged) == 3
    assert all(record.levelname == "WARNING" and record.exc_info is None for record in logged)
    assert all(len(record.getMessage()) < 100 for record in logged)


_PLAIN = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_SHARED_LIMIT = 3


def _limited(kafka: KafkaSettings) -> Settings:
    """Returns settings with every carrier and a shared limit of three requests."""
    limits = GatewaySettings(
        max_unproven_requests=_SHARED_LIMIT,
        unlimited_peers=(),
        stream_token_secret=SecretStr("a-secret-of-some-length"),
    )
    return settings_with_every_carrier(kafka).model_copy(update={"gateway": limits})


async def test_signed_upgrade_is_accepted_over_the_shared_limit(kafka: KafkaSettings) -> None:
    """Uses up the shared limit from four addresses, then sends a signed upgrade in pieces from a fifth.

    The rejection must name the setting; the signed upgrade must succeed, and later requests of its address as well. A
    failure means that other clients can block calls.
    """
    signature = sign(TWILIO_TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)
    async with _served(_limited(kafka)) as port:
        heads = [await _raw(port, _PLAIN, f"127.0.1.{number}") for number in range(1, 5)]
        assert [_status(head) for head in heads] == [200, 200, 200, 503]
        assert b"AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS" in heads[-1]
        assert b"Retry-After: 10" in heads[-1]
        close = b"\x88\x80" + bytes(4)
        assert _status(await _raw(port, upgrade(signature) + close, "127.0.3.1", pieces=5)) == 101
        assert _status(await _raw(port, _PLAIN, "127.0.3.1")) == 200


@pytest.mark.parametrize("path", ["/v1/media/nobody", "/v1/status/nobody", "/v1/media/", "/v1/calls", "/"])
async def test_similar_paths_count_against_the_shared_limit(kafka: KafkaSettings, path: str) -> None:
    """Requests paths that carriers do not use: the fourth request must be rejected.

    A flood would use any path that is exempt from the shared limit.
    """
    data = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    async with _served(_limited(kafka)) as port:
        statuses = [_status(await _raw(port, data, f"127.0.9.{number}")) for number in range(1, 5)]
    assert statuses == [404, 404, 404, 503]


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_signed_webhook_is_accepted_over_the_shared_limit(kafka: KafkaSettings, name: str) -> None:
    """Sends each carrier's status webhook in three pieces after the shared limit is used up.

    A signed one must be accepted; one without a signature or with a changed body must get 403.
    """
    made = request(name, f"/v1/status/{name}", end_fields(name, "c-1"))
    head = "".join(f"{key}: {value}\r\n" for key, value in made.headers.items())
    data = (
        f"POST {made.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {len(made.body)}\r\n\r\n"
    ).encode() + made.body
    plain = "".join(f"{key}: {value}\r\n" for key, value in made.headers.items() if key == "Content-Type")
    forged = data.replace(head.encode(), plain.encode())
    async with _served(_limited(kafka)) as port:
        for number in range(1, 4):
            await _raw(port, _PLAIN, f"127.0.1.{number}")
        assert _status(await _raw(port, data, "127.0.7.1", pieces=3)) == 204
        assert _status(await _raw(port, forged, "127.0.7.2", pieces=3)) == 403
        if name not in ("exotel", "jambonz", "vonage"):  # they sign no body, or not this one
            changed = data[:-1] + bytes([data[-1] ^ 1])
            assert _status(await _raw(port, changed, "127.0.7.3", pieces=3)) == 403


async def test_data_after_the_upgrade_request_is_kept(kafka: KafkaSettings) -> None:
    """Sends a signed upgrade and the first messages of its stream in one packet: the stream must begin.

    Carriers do not wait for a response before they send.
    """
    said = b'{"event":"connected"}'
    frame = b"\x81" + bytes([0x80 | len(said)]) + bytes(4) + said
    signature = sign(TWILIO_TOKEN, PUBLIC_URL.replace("https", "wss") + MEDIA)
    async with _served(_limited(kafka)) as port:
        answer = await _raw(port, upgrade(signature) + frame + b"\x88\x80" + bytes(4), "127.0.4.1")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x88\x02\x03\xe8"), "its close frame was not read"


@pytest.mark.parametrize("target", ["http://e/v1/media/twilio", "http://e:99999999/v1/voice/twilio", "e:443", "*", "e"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT"])
async def test_target_that_is_no_path_is_refused(
    kafka: KafkaSettings, caplog: pytest.LogCaptureFixture, method: str, target: str
) -> None:
    """Sends requests for other hosts, as to a proxy, with a signature.

    Each must get 400 without a stack trace. The signed URL is the public URL plus the target, so another form of target
    makes an invalid URL.
    """
    data = f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-Twilio-Signature: x\r\nConnection: close\r\n\r\n".encode()
    async with _served(settings_for(kafka)) as port:
        assert _status(await _raw(port, data)) == 400
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.parametrize("path", ["/v1/session", "/v1/status/twilio", "/v1/notices/soniox"])
@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_incomplete_body_is_refused_after_the_time_limit(kafka: KafkaSettings, path: str, length: str) -> None:
    """Posts heads without their bodies to an API that must receive nothing, and to webhooks.

    Each must get 408 and lose its connection after the time limit, and the API must not even be asked. Otherwise a few
    bytes per connection use up the descriptors of gateway and API.
    """
    asked: list[str] = []

    async def api(api_request: web.Request) -> web.Response:
        asked.append(api_request.path)
        return web.Response()

    upstream = web.Application()
    upstream.router.add_route("*", "/{path:.*}", api)
    data = f"POST {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode()
    async with TestServer(upstream) as server:
        settings = settings_for(kafka, handshake_timeout_s=0.2, api_url=str(server.make_url("")))
        async with _served(settings) as port, asyncio.timeout(30):
            assert _status(await _raw(port, data)) == 408
    assert asked == []


async def test_oldest_incomplete_body_is_closed_first() -> None:
    """Posts one head without its body more than allowed: the oldest must be closed, and a request must be answered.

    Otherwise slow bodies could use up the descriptors before the time limit.
    """
    metrics = Metrics()
    guard = _guard(metrics, max_pending=2, handshake_timeout_s=600)
    application = web.Application(middlewares=[guard.middleware])
    application.router.add_post("/", _hello)
    runner = web.AppRunner(application)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(guard.factory(runner), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in slow:
        writer.write(head + b"12")
    assert b"hello" in await _raw(port, head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"12345")
    async with asyncio.timeout(60):
        assert await _ended(slow[0][0])
    slow[1][1].write(b"345")
    assert b"hello" in await slow[1][0].readuntil(b"hello")
    assert b'refused_sockets_total{reason="handshake"} 1.0' in metrics.render()
    for _, writer in slow:
        writer.close()
    server.close()
    await runner.cleanup()


async def test_lost_body_leaves_no_stack_trace(kafka: KafkaSettings, caplog: pytest.LogCaptureFixture) -> None:
    """Posts half a body and closes the connection, and posts a malformed chunk: nothing may be logged as an error."""
    async with _served(settings_for(kafka)) as port:
        head = b"POST /v1/status/twilio HTTP/1.1\r\nHost: x\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"Content-Length: 5\r\n\r\n12")
        await writer.drain()
        writer.transport.abort()
        assert _status(await _raw(port, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")) == 400
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.parametrize("second", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Ha"])
async def test_idle_connection_is_closed(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, second: bytes) -> None:
    """Sends one request, then nothing or half a request, with a limit of 0.2 s instead of 75 s.

    The connection must be closed. Otherwise each address can hold tens of thousands of connections.
    """
    assert http_server.KEEPALIVE_S == 75
    monkeypatch.setitem(http_server.OPTIONS, "keepalive_timeout", 0.2)
    async with _served(settings_for(kafka)) as port, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_PLAIN.replace(b"Connection: close\r\n", b"") + second)
        assert b"alive" in await reader.read()
        writer.close()


@pytest.mark.parametrize(("trusted", "lines"), [([], 1), (["127.0.0.1"], 0)])
async def test_proxy_that_hides_its_clients_is_reported_once(
    kafka: KafkaSettings, caplog: pytest.LogCaptureFixture, trusted: list[str], lines: int
) -> None:
    """Sends requests as a local proxy does, with X-Forwarded-For, without and with this proxy in the settings.

    Without it the log must say once which setting is missing: no limits apply to the clients of such a proxy.
    """
    async with _served(settings_for(kafka, trusted_proxies=trusted)) as port, _from("127.0.0.1") as proxy:
        for _ in range(3):
            url, headers = f"http://127.0.0.1:{port}/healthz", {"X-Forwarded-For": "203.0.113.7"}
            assert (await proxy.get(url, headers=headers)).status == 200
    found = [record for record in caplog.records if "AUDIOTEXT_GATEWAY__TRUSTED_PROXIES" in record.getMessage()]
    assert len(found) == lines


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


async def _raw(port: int, data: bytes, address: str = "127.0.0.1", pieces: int = 1) -> bytes:
    """Sends the bytes in several pieces from this address and returns what arrives until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    size = -(-len(data) // pieces)
    for start_at in range(0, len(data), size):
        writer.write(data[start_at : start_at + size])
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


def _status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


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


def _guard(metrics: Metrics, *, max_pending: int = 1000, **limits: object) -> ConnectionGuard:
    settings = Settings(gateway=GatewaySettings.model_validate(limits))
    return ConnectionGuard(settings, {}, ClientLimiter(settings.gateway), metrics, max_pending)
