"""The way through the gateway to the API: nothing changed that matters to either end."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from functools import partial

import pytest
from aiohttp import ClientError, ClientSession, web
from aiohttp.test_utils import TestServer

from core.settings import KafkaSettings
from gateway import app
from gateway.app import Gateway
from tests.gateway.conftest import Serve, settings_for

GO_ON = web.AppKey("go_on", asyncio.Event)


async def _echo(request: web.Request) -> web.Response:
    """Tells what arrived."""
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
    """Answers one chunk, then another when asked to over the first one's connection."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"first")
    await request.app[GO_ON].wait()
    await answer.write(b"second")
    return answer


async def _broken(request: web.Request) -> web.StreamResponse:
    """Promises more than it sends."""
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b"half")
    assert request.transport is not None
    request.transport.abort()
    return answer


async def _refused(_request: web.Request) -> web.Response:
    """Does not read what was sent."""
    return web.Response(status=401)


async def _ready(_request: web.Request) -> web.Response:
    return web.Response()


async def _moved(_request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/elsewhere"})


@pytest.fixture
async def api() -> AsyncIterator[TestServer]:
    """An API of the test's own."""
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


async def test_requests_and_answers_pass_unchanged(serve: Serve, api: TestServer) -> None:
    """Posts through the gateway: method, escaped path, query, body, Range and authorization arrive; status and ETag
    come back; headers of the connection do neither."""
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


async def test_answers_are_streamed(serve: Serve, api: TestServer) -> None:
    """Reads the first chunk of an answer that is not finished: it is there before the second exists. A proxy that
    collects would hold whole recordings in memory."""
    _, client = await serve(api_url=str(api.make_url("")))
    async with client.get("/slow") as answer:
        assert await answer.content.readany() == b"first"
        api.app[GO_ON].set()
        assert await answer.content.read() == b"second"


async def test_an_api_that_is_away_is_502(serve: Serve) -> None:
    """Asks through a gateway whose API does not listen: 502 in JSON; carriers' paths are not affected."""
    _, client = await serve(api_url="http://127.0.0.1:9")
    answer = await client.get("/v1/calls")
    assert answer.status == 502
    assert "error" in await answer.json()
    assert (await client.get("/v1/media/twilio")).status == 403


async def test_half_an_answer_is_not_a_whole_one(serve: Serve, api: TestServer) -> None:
    """Lets the API die in the middle of an answer: the caller sees a broken connection, not a short recording."""
    _, client = await serve(api_url=str(api.make_url("")))
    async with client.get("/broken") as answer:
        with pytest.raises(ClientError):
            await answer.read()


async def test_what_a_stranger_sends_is_no_part_of_another_s_request(kafka: KafkaSettings, api: TestServer) -> None:
    """A stranger posts a compressed body and is refused by an API that does not read it; then somebody else asks over
    the same connection to the API. Announced longer than it arrives, the rest of the first would be taken from the
    second, whose key would then sign what the stranger wrote."""
    gateway = Gateway(settings_for(kafka, api_url=str(api.make_url(""))))
    runner = app.runner_of(gateway)
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


async def test_a_compressed_body_arrives_as_it_was_sent(kafka: KafkaSettings, api: TestServer) -> None:
    """Posts a gzip body through the gateway as it is served: the API reads what was meant. It was a 500."""
    gateway = Gateway(settings_for(kafka, api_url=str(api.make_url(""))))
    runner = app.runner_of(gateway)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (address,) = runner.addresses
    async with ClientSession(f"http://{address[0]}:{address[1]}") as client:
        headers = {"Content-Encoding": "gzip"}
        async with client.post("/v1/replays", data=gzip.compress(b"hello"), headers=headers) as answer:
            assert (await answer.json())["body"] == "hello"
    await runner.cleanup()


async def test_what_the_api_misses_is_told_as_its_own(serve: Serve) -> None:
    """Asks /readyz while the API behind it misses a store, and while the API answers nonsense. Whoever waits for the
    gateway has to learn which store to start, and not that the API does not answer."""
    missing = {"ClickHouse": "ClickHouse cannot be reached"}
    for body, told in (
        ({"status": "not ready", "missing": missing}, missing),
        ({}, {"api": "its /readyz does not answer"}),
    ):
        made = web.Application()
        made.add_routes([web.get("/readyz", partial(_not_ready, body))])
        async with TestServer(made) as upstream:
            _, client = await serve(api_url=str(upstream.make_url("")))
            answer = await client.get("/readyz")
            assert answer.status == 503
            assert (await answer.json())["missing"] == told


async def _not_ready(body: object, _request: web.Request) -> web.Response:
    return web.json_response(body, status=503)


async def test_ready_with_a_ready_api(serve: Serve, api: TestServer) -> None:
    """Asks /readyz with log and API there: 200."""
    _, client = await serve(api_url=str(api.make_url("")))
    assert (await client.get("/readyz")).status == 200
