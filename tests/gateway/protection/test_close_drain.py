"""Who is hung up on may answer, but not go on."""

import asyncio
import struct

import pytest

from gateway.carriers.common.signatures import HEADER
from tests.gateway.conftest import Serve
from tests.gateway.protection.test_request_prefilter import upgrade
from tests.gateway.test_limits import SIGNED

MOST_ON_THE_WAY = 32_000_000  # octets: what two kernels hold of a connection that nobody reads


def masked(text: bytes) -> bytes:
    """A client's text frame."""
    return b"\x81\xfe" + struct.pack(">H", len(text)) + bytes(4) + text


NONSENSE = masked(b"x" * 200) * 100


async def dial(serve: Serve) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw media socket that has said enough nonsense to be hung up on."""
    _, client = await serve()
    assert client.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(upgrade(SIGNED[HEADER]))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(NONSENSE)
    return reader, writer


async def test_a_flood_that_goes_on_is_not_read(serve: Serve) -> None:
    """Floods a media socket and takes no notice of its close frame: what it gets rid of is what the kernels hold until
    the connection is cut. The library reads on until the other side closes as well, so a second of each such socket's
    flood would be ours to work through."""
    _, writer = await dial(serve)
    sent = 0
    try:
        async with asyncio.timeout(30):
            while sent < 4 * MOST_ON_THE_WAY:
                writer.write(NONSENSE)
                sent += len(NONSENSE)
                await writer.drain()
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    assert sent < MOST_ON_THE_WAY


async def test_whoever_answers_the_close_frame_is_let_go_at_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says too much nonsense and then closes as it should: the connection ends in good order, and long before the time
    that is given to those who say nothing. A carrier that is hung up on has to learn why."""
    monkeypatch.setattr("gateway.media.websocket_server._CLOSE_TIMEOUT_S", 300.0)
    reader, writer = await dial(serve)
    async with asyncio.timeout(60):
        head = await reader.readexactly(2)
        told = await reader.readexactly(head[1])
        writer.write(b"\x88\x82" + bytes(4) + told[:2])
        assert await reader.read() == b""
    assert head[:1] == b"\x88"
    assert struct.unpack(">H", told[:2]) == (1002,)
    assert b"no start" in told
    writer.close()
