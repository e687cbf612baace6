"""Connection to a gateway: a WebSocket or, for AudioSocket, plain TCP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp

from core.errors import UserError


class CallRefusedError(UserError):
    """The gateway refused the call, or closed it before its end. The message gives the gateway's answer."""


class Transport(Protocol):
    """Open connection."""

    async def send(self, message: str | bytes) -> None:
        """Sends one message."""

    async def closed(self) -> str:
        """Waits until the other side closes. Returns its reason."""

    async def cut(self) -> None:
        """Breaks the connection as a network does: without a close frame."""


class _WebSocket:
    def __init__(self, client: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._client = client
        self._socket = socket

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)

    async def closed(self) -> str:
        while True:
            message = await self._socket.receive()  # also answers pings
            if message.type is aiohttp.WSMsgType.CLOSE:
                return f"{message.data} {message.extra or ''}".strip()
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return f"{self._socket.close_code} without a reason"

    async def cut(self) -> None:
        if self._client.connector is not None:
            await self._client.connector.close()


class _Tcp:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: str | bytes) -> None:
        self._writer.write(message.encode() if isinstance(message, str) else message)
        await self._writer.drain()

    async def closed(self) -> str:
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(4096):
                pass
        return "the connection was closed"

    async def cut(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def connect(url: str, headers: Mapping[str, str], subprotocols: Sequence[str]) -> AsyncIterator[Transport]:
    """Opens a connection to ws://…, wss://… or tcp://host:port. Raises CallRefusedError for every failure of it."""
    try:
        if urlsplit(url).scheme == "tcp":
            async with _tcp(url) as connection:
                yield connection
        else:
            async with _websocket(url, headers, subprotocols) as connection:
                yield connection
    except aiohttp.WSServerHandshakeError as error:
        raise CallRefusedError(f"the gateway refused the call: {error.status} {error.message}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise CallRefusedError(f"{url}: {error}") from None


@contextlib.asynccontextmanager
async def _websocket(url: str, headers: Mapping[str, str], subprotocols: Sequence[str]) -> AsyncIterator[Transport]:
    timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, headers=headers, protocols=subprotocols, timeout=timeout) as socket,
    ):
        if subprotocols and socket.protocol not in subprotocols:
            raise CallRefusedError(f"the gateway does not accept the subprotocol {subprotocols[0]}")
        yield _WebSocket(client, socket)


@contextlib.asynccontextmanager
async def _tcp(url: str) -> AsyncIterator[Transport]:
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise CallRefusedError(f"{url} is not a valid address: use tcp://host:port")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield _Tcp(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
