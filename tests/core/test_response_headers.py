"""Headers that every answer of gateway and API has."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from core.http_server import protect_responses


@pytest.mark.parametrize("base_url", ["https://calls.example.com", "http://127.0.0.1:8080"])
async def test_every_answer_is_protected(base_url: str) -> None:
    """Requests an answer, an error of a handler and an unknown path, at an https and an http address.

    Each forbids browsers to guess its type, and names no version of the server; HSTS comes with https only, because
    browsers would refuse plain http afterwards.
    """

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/error":
            raise web.HTTPBadRequest
        return web.Response(text="{}", headers={"Server": "uvicorn"})

    app = web.Application()
    app.router.add_get("/{path:answer|error}", answer)
    protect_responses(app, base_url)
    async with TestClient(TestServer(app)) as client:
        for path in ("/answer", "/error", "/unknown"):
            headers = (await client.get(path)).headers
            assert headers.getall("Server") == ["audiotext"]
            assert headers.getall("X-Content-Type-Options") == ["nosniff"]
            assert ("Strict-Transport-Security" in headers) is base_url.startswith("https:")
