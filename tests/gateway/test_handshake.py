"""Connections that make no request."""

import asyncio

from aiohttp import web

from gateway.handshake import HandshakeTimeout
from gateway.metrics import Metrics


async def test_who_asks_for_nothing_is_hung_up_on() -> None:
    """Opens three connections: one says nothing, one sends half a request, one asks and stays: only that one lives on.
    Half-open connections are the cheapest way to use up a server's descriptors."""
    metrics = Metrics()
    handshake = HandshakeTimeout(0.2, metrics)
    app = web.Application(middlewares=[handshake.middleware])
    app.router.add_get("/", _hello)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(handshake.factory(runner.server), "127.0.0.1", 0)
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
    handshake = HandshakeTimeout(600, metrics, most_silent=2)
    app = web.Application(middlewares=[handshake.middleware])
    app.router.add_get("/", _hello)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(handshake.factory(runner.server), "127.0.0.1", 0)
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


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")
