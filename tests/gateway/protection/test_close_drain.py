"""Tests of closing a media socket: the peer may reply to the close frame, but not continue to send."""

import asyncio
import struct

import pytest

from gateway.carriers.common.signatures import HEADER
from tests.gateway.conftest import Serve
from tests.support.media_requests import SIGNED, upgrade

MAX_IN_TRANSIT = 32_000_000  # bytes: the kernel buffers of both sides of an unread connection


def masked(text: bytes) -> bytes:
    """Returns a client's text frame."""
    return b"\x81\xfe" + struct.pack(">H", len(text)) + bytes(4) + text


NONSENSE = masked(b"x" * 200) * 100


async def dial(serve: Serve) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Opens a raw media socket and sends enough invalid messages that the gateway closes it."""
    _, client = await serve()
    assert client.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(upgrade(SIGNED[HEADER]))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(NONSENSE)
    return reader, writer


async def test_flood_after_the_close_frame_is_not_read(serve: Serve) -> None:
    """Floods a media socket and ignores its close frame.

    The peer may only send what fits into the kernels' buffers until the connection is closed. A failure means that the
    gateway processes the rest of a flood.
    """
    _, writer = await dial(serve)
    sent = 0
    try:
        async with asyncio.timeout(30):
            while sent < 4 * MAX_IN_TRANSIT:
                writer.write(NONSENSE)
                sent += len(NONSENSE)
                await writer.drain()
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    assert sent < MAX_IN_TRANSIT


async def test_reply_to_the_close_frame_ends_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends invalid messages, then replies to the close frame.

    The connection must close cleanly and long before the close timeout, so that a carrier learns the reason.
    """
    monkeypatch.setattr("gateway.media.websocket_server._CLOSE_TIMEOUT_S", 300.0)
    reader, writer = await dial(serve)
    async with asyncio.timeout(60):
        head = await reader.readexactly(2)
        reply = await reader.readexactly(head[1])
        writer.write(b"\x88\x82" + bytes(4) + reply[:2])
        assert await reader.read() == b""
    assert head[:1] == b"\x88"
    assert struct.unpack(">H", reply[:2]) == (1002,)
    assert b"no start" in reply
    writer.close()
