"""Tests of the proxy to the API: requests and responses must arrive unchanged."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, web
from aiohttp.test_utils import TestServer

from api.models import Readiness
from core.http_address import socket_path, unix_address
from core.settings import KafkaSettings
from gateway import app
from gateway.app import Gateway
from tests.gateway.conftest import Serve, settings_for

GO_ON = web.AppKey("go_on", asyncio.Event)


async def _echo(request: web.Request) -> web.Response:
    """Returns the received request."""
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        },
        headers={"ETag": '"abc"', "Connection": "X-Private", "X-Private": "1"},
    )


async def _slow(request: web.Request) -> web.StreamResponse:
    """Sends one chunk, and the second when another request allows it."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"first")
    await request.app[GO_ON].wait()
    await answer.write(b"second")
    return answer


async def _broken(request: web.Request) -> web.StreamResponse:
    """Announces more bytes than it sends."""
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b"half")
    assert request.transport is not None
    request.transport.abort()
    return answer


async def _refused(_request: web.Request) -> web.Response:
    """Rejects the request without reading its body."""
    return web.Response(status=401)


async def _ready(_request: web.Request) -> web.Response:
    return web.Response()


async def _moved(_request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/elsewhere"})


@pytest.fixture
async def api() -> AsyncIterator[TestServer]:
    """Starts an API for the test."""
    made = web.Application()
    made[GO_ON] = asyncio.Event()
    made.add_routes(
        [
            web.get("/slow", _slow),
            web.get("/broken", _broken),
            web.get("/readyz", _ready),
            web.get("/moved", _moved),
            web.post("/refused", _refused),
            web.route("*", "/{path:.*}", _echo),
        ]
    )
    server = TestServer(made)
    await server.start_server()
    yield server
    await server.close()


async def test_requests_and_responses_are_unchanged(serve: Serve, api: TestServer) -> None:
    """Posts through the gateway: method, escaped path, query, body, Range and authorization must arrive.

    Status and ETag must come back; headers of the connection must be removed in both directions.
    """
    _, client = await serve(api_url=str(api.make_url("")))
    headers = {"Range": "bytes=0-1", "Authorization": "Bearer x", "Connection": "X-Mine", "X-Mine": "1"}
    answer = await client.post("/v1/calls/a%2Fb?q=%20x&q=y", data=b"hello", headers=headers)
    got = await answer.json()
    assert (got["method"], got["target"], got["body"]) == ("POST", "/v1/calls/a%2Fb?q=%20x&q=y", "hello")
    assert got["headers"]["range"] == "bytes=0-1"
    assert got["headers"]["authorization"] == "Bearer x"
    assert got["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert "x-mine" not in got["headers"]
    assert answer.headers["ETag"] == '"abc"'
    assert "X-Private" not in answer.headers
    assert (await client.head("/v1/calls")).status == 200
    assert (await client.get("/moved", allow_redirects=False)).status == 302


@pytest.mark.parametrize("folder", ["api", "a" * 120], ids=["short path", "longer than a socket's path may be"])
async def test_the_api_may_listen_on_a_unix_socket(serve: Serve, tmp_path: Path, folder: str) -> None:
    """Forwards a request to an API that listens on a Unix socket, as under `audiotext up`."""
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "api.sock"
    made = web.Application()
    made.add_routes([web.get("/readyz", _ready), web.route("*", "/{path:.*}", _echo)])
    runner = web.AppRunner(made)
    await runner.setup()
    await web.UnixSite(runner, socket_path(path)).start()
    try:
        _, client = await serve(api_url=unix_address(path))
        answer = await client.post("/v1/calls/a%2Fb?q=1", data=b"hello")
        got = await answer.json()
        assert (got["target"], got["body"]) == ("/v1/calls/a%2Fb?q=1", "hello")
    finally:
        await runner.cleanup()


async def test_responses_are_streamed(serve: Serve, api: TestServer) -> None:
    """Reads the first chunk of a response before its second exists.

    A proxy that collects responses would hold whole recordings in memory.
    """
    _, client = await serve(api_url=str(api.make_url("")))
    async with client.get("/slow") as answer:
        assert await answer.content.readany() == b"first"
        api.app[GO_ON].set()
        assert await answer.content.read() == b"second"


async def test_unreachable_api_gives_502(serve: Serve) -> None:
    """Sends a request to a gateway whose API does not listen: 502 in JSON; carriers' paths must still work."""
    _, client = await serve(api_url="http://127.0.0.1:9")
    answer = await client.get("/v1/calls")
    assert answer.status == 502
    assert "error" in await answer.json()
    assert (await client.get("/v1/media/twilio")).status == 403


async def test_truncated_response_breaks_the_connection(serve: Serve, api: TestServer) -> None:
    """Lets the API fail in the middle of a response: the client must see a broken connection, not a short recording."""
    _, client = await serve(api_url=str(api.make_url("")))
    async with client.get("/broken") as answer:
        with pytest.raises(ClientError):
            await answer.read()


async def test_unread_body_does_not_reach_the_next_request(kafka: KafkaSettings, api: TestServer) -> None:
    """Posts a compressed body that the API rejects unread, then sends another client's request.

    The rest of the first body must not become part of the second request, whose key would then authorize it.
    """
    gateway = Gateway(settings_for(kafka, api_url=str(api.make_url(""))))
    runner = app.create_runner(gateway)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (address,) = runner.addresses
    body = zlib.compress(b"x")  # longer than what it holds
    async with asyncio.timeout(5), ClientSession(f"http://{address[0]}:{address[1]}") as client:
        for _ in range(2):
            async with client.post("/refused", data=body, headers={"Content-Encoding": "deflate"}) as refused:
                assert refused.status == 401
            # A GET would be asked again by itself.
            async with client.post("/v1/replays", data=b"mine", headers={"Authorization": "Bearer key"}) as answer:
                got = await answer.json()
                assert (got["method"], got["target"], got["body"]) == ("POST", "/v1/replays", "mine")
    await runner.cleanup()


async def test_compressed_body_arrives_unchanged(kafka: KafkaSettings, api: TestServer) -> None:
    """Posts a gzip body through the gateway: the API must read the original text."""
    gateway = Gateway(settings_for(kafka, api_url=str(api.make_url(""))))
    runner = app.create_runner(gateway)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (address,) = runner.addresses
    async with ClientSession(f"http://{address[0]}:{address[1]}") as client:
        headers = {"Content-Encoding": "gzip"}
        async with client.post("/v1/replays", data=gzip.compress(b"hello"), headers=headers) as answer:
            assert (await answer.json())["body"] == "hello"
    await runner.cleanup()


async def test_readyz_does_not_depend_on_the_api(serve: Serve) -> None:
    """Requests /readyz while the API misses a store, returns an invalid response, hangs, or does not listen.

    The gateway must be ready at once, because it accepts calls without the API. The response must name what the API
    misses, so that the user knows what to start.
    """
    missing = {"ClickHouse": "ClickHouse cannot be reached"}
    silent = {"api": "its /readyz does not answer"}
    for body, named in (({"ready": False, "missing": missing, "api_missing": {}}, missing), ({}, silent)):
        made = web.Application()
        made.add_routes([web.get("/readyz", partial(_not_ready, body))])
        async with TestServer(made) as upstream:
            assert await _api_missing(serve, str(upstream.make_url(""))) == named
    assert await _api_missing(serve, "http://127.0.0.1:9") == silent
    hanging = web.Application()
    hanging.add_routes([web.get("/readyz", _hang)])
    async with TestServer(hanging) as upstream:
        _, client = await serve(api_url=str(upstream.make_url("")))
        for _ in range(3):
            async with asyncio.timeout(2):
                answer = await client.get("/readyz")
            assert (answer.status, (await answer.json())["ready"]) == (200, True)


async def _api_missing(serve: Serve, api_url: str) -> object:
    """Returns what the API misses, once the gateway has checked it. The gateway must be ready meanwhile."""
    _, client = await serve(api_url=api_url)
    async with asyncio.timeout(30):
        while True:
            answer = await client.get("/readyz")
            found = await answer.json()
            Readiness.model_validate(found)  # the OpenAPI document describes this body
            assert (answer.status, found["ready"], found["missing"]) == (200, True, {})
            if found["api_missing"] != {"api": "not checked yet"}:
                return found["api_missing"]
            await asyncio.sleep(0.02)


async def _hang(_request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def _not_ready(body: object, _request: web.Request) -> web.Response:
    return web.json_response(body, status=503)


async def test_ready_with_a_ready_api(serve: Serve, api: TestServer) -> None:
    """Requests /readyz with a log and an API: the API must miss nothing after its first check."""
    assert await _api_missing(serve, str(api.make_url(""))) == {}
