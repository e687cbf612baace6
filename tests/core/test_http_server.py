"""Tests of the parts that both HTTP servers share: the options that limit idle connections."""

import asyncio

import pytest
from aiohttp import web

from core import http_server


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHo"])
async def test_connection_without_a_complete_request_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends nothing, half a head, or one request and half a head, with a limit of 0.2 s instead of 75 s.

    The connection must be closed. Otherwise it holds a descriptor for an hour.
    """
    monkeypatch.setitem(http_server.OPTIONS, "keepalive_timeout", 0.2)
    runner = web.AppRunner(web.Application(), **http_server.OPTIONS)
    await runner.setup()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(http_server.protocol_factory(runner), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(sent)
    async with asyncio.timeout(30):
        answer = await reader.read()
    assert answer.count(b"HTTP/1.1 404") == sent.count(b"\r\n\r\n")
    writer.close()
    server.close()
    await runner.cleanup()
