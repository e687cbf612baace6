"""Kafka proxy in front of noida-db that authenticates clients and delays empty fetch responses.

noida-db has no authentication. Before this proxy forwards anything, the client must prove by SCRAM-SHA-256 that it
knows the password of the data directory. noida-db's own port is in a private network, which this process enters.

A Kafka broker answers a fetch when it has records, or after `fetch.wait.max.ms`. noida-db answers at once, so every
idle consumer sends 30,000 requests per second, and an idle stack uses more than one processor. This proxy forwards
everything unchanged, except an empty fetch response: it waits until the log has grown or the consumer's wait time is
over. It also replaces the log's address with its own in responses that contain it.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from dataclasses import dataclass

import uvloop

from audiotext.embedded import private_network, scram
from audiotext.embedded.log import PASSWORD_VARIABLE, USER
from audiotext.embedded.server import LOOPBACK
from audiotext.embedded.shim import wait_for_stop_signal
from core import logs

_PRODUCE, _FETCH = 0, 1
_HANDSHAKE, _API_VERSIONS, _AUTHENTICATE = 17, 18, 36
_RETURNS_ADDRESSES = frozenset({3, 10, 60})  # Metadata, FindCoordinator, DescribeCluster
_END_TRANSACTION = 26
_FETCH_VERSION = 12  # the version that librdkafka uses with noida-db; others are forwarded without delay

logger = logging.getLogger(__name__)

_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # API key, version, correlation id
_FETCH_WAIT = struct.Struct(">ii")  # replica id, longest wait in ms
_AUTHENTICATE_FLEXIBLE = 2  # the version from which SaslAuthenticate has the compact encoding
_UNSUPPORTED_MECHANISM, _AUTHENTICATION_FAILED = 33, 58
_AUTHENTICATION_S = 10.0  # longest time that a client may take to authenticate
_MAX_UNAUTHENTICATED = 16 * 1024  # bytes of a request before that
_LARGE = 64 * 1024  # bytes; a fetch response above it is not empty


class AppendNotifier:
    """Notifies waiters when the log grows. All producers use this proxy, so the log need not be polled."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Records that the log has new records, or that records became visible."""
        self.count += 1
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def wait(self, count: int, timeout_s: float) -> None:
        """Returns when `self.count` differs from `count`, or after the timeout."""
        if self.count != count:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting, timeout_s)
        self._waiting.discard(waiting)


@dataclass(frozen=True, slots=True)
class _PendingRequest:
    """Request without a response yet. append_count: the notifier's count when it was sent."""

    api: int
    version: int
    append_count: int
    wait_s: float


def max_wait_s(request: bytes) -> float:
    """Returns the wait time in a fetch request of `_FETCH_VERSION`, in seconds; 0 if it cannot be read."""
    try:
        (client_id,) = struct.unpack_from(">h", request, _REQUEST.size)
        position = _REQUEST.size + 2 + max(client_id, 0)
        if request[position]:  # tagged fields, which librdkafka does not send
            return 0.0
        _, wait_ms = _FETCH_WAIT.unpack_from(request, position + 1)
    except (struct.error, IndexError):
        return 0.0
    return float(wait_ms) / 1000


def is_empty(response: bytes) -> bool:
    """Returns True if a fetch response of `_FETCH_VERSION` contains neither records nor an error."""
    try:
        fields = _Fields(response, 4)  # after the correlation id
        fields.tags()
        _throttle_ms, error, _session = fields.take(">ihi")
        if error:
            return False
        for _topic in fields.items():
            fields.skip_bytes()
            for _partition in fields.items():
                _index, error, _high_watermark, _stable, _start = fields.take(">ihqqq")
                for _aborted in fields.items():
                    fields.take(">qq")
                    fields.tags()
                fields.take(">i")
                if error or fields.skip_bytes():
                    return False
                fields.tags()
            fields.tags()
    except (struct.error, IndexError):
        return False
    return True


class _Fields:
    """Reader of Kafka's compact encoding. Raises struct.error or IndexError at the end of the data."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, layout: str) -> tuple[int, ...]:
        """Reads integers of a fixed size."""
        values = struct.unpack_from(layout, self._data, self._position)
        self._position += struct.calcsize(layout)
        return values

    def items(self) -> Iterator[int]:
        """Iterates once per element of a compact array; null counts as empty."""
        return iter(range(self._varint() - 1))

    def take_bytes(self) -> bytes:
        """Reads a compact string or byte field; null counts as empty."""
        length = self.skip_bytes()
        return self._data[self._position - length : self._position]

    def skip_bytes(self) -> int:
        """Skips a compact string or byte field and returns its length; 0 for null."""
        length = max(self._varint() - 1, 0)
        self._position += length
        return length

    def tags(self) -> None:
        """Skips tagged fields."""
        for _ in range(self._varint()):
            self._varint()
            self._position += self._varint()

    def _varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self._data[self._position]
            self._position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7


class Authentication:
    """Authentication of one connection by SaslHandshake and SaslAuthenticate."""

    def __init__(self, known: scram.Credentials) -> None:
        self._conversation = scram.Conversation(known)
        self._begun = False
        self.done = False

    def handshake(self, request: bytes) -> bytes:
        """Returns the response to a SaslHandshake request, which names a mechanism."""
        position = _client_id_end(request)
        (length,) = struct.unpack_from(">h", request, position)
        asked = request[position + 2 : position + 2 + length]
        ours = scram.MECHANISM.encode()
        error = 0 if asked == ours else _UNSUPPORTED_MECHANISM
        return request[4:8] + struct.pack(">hih", error, 1, len(ours)) + ours

    def authenticate(self, request: bytes) -> bytes:
        """Returns the response to a SaslAuthenticate request. `done` is true if the client has proved the password.

        Raises scram.AuthenticationError, whose response is `failure`.
        """
        message = self._message(request)
        if not self._begun:
            self._begun = True
            return self._response(request, 0, None, self._conversation.begin(message))
        reply = self._conversation.finish(message)
        self.done = True
        return self._response(request, 0, None, reply)

    def failure(self, request: bytes) -> bytes:
        """Returns the response to a SaslAuthenticate request that failed."""
        return self._response(request, _AUTHENTICATION_FAILED, b"user or password is wrong", b"")

    @staticmethod
    def _message(request: bytes) -> bytes:
        _, version, _ = _REQUEST.unpack_from(request)
        position = _client_id_end(request)
        if version < _AUTHENTICATE_FLEXIBLE:
            (length,) = _SIZE.unpack_from(request, position)
            return request[position + _SIZE.size :][:length]
        fields = _Fields(request, position)
        fields.tags()
        return fields.take_bytes()

    @staticmethod
    def _response(request: bytes, error: int, text: bytes | None, reply: bytes) -> bytes:
        _, version, _ = _REQUEST.unpack_from(request)
        if version < _AUTHENTICATE_FLEXIBLE:
            message = struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text
            lifetime = struct.pack(">q", 0) if version == 1 else b""
            return request[4:8] + struct.pack(">h", error) + message + _SIZE.pack(len(reply)) + reply + lifetime
        no_tags = b"\0"
        message = b"\0" if text is None else _varint(len(text) + 1) + text
        body = struct.pack(">h", error) + message + _varint(len(reply) + 1) + reply + struct.pack(">q", 0)
        return request[4:8] + no_tags + body + no_tags


def _client_id_end(request: bytes) -> int:
    (length,) = struct.unpack_from(">h", request, _REQUEST.size)
    return _REQUEST.size + 2 + max(int(length), 0)


def _varint(value: int) -> bytes:
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


class Proxy:
    """Proxy from `port` to `upstream`, both on the loopback interface."""

    def __init__(self, port: int, upstream: int, known: scram.Credentials) -> None:
        self._upstream = upstream
        self._known = known
        self._appends = AppendNotifier()
        # In every version a broker's address is its host as text, followed by its port in four bytes.
        self._address = (LOOPBACK.encode() + _SIZE.pack(upstream), LOOPBACK.encode() + _SIZE.pack(port))

    async def serve_client(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serves one client until either side closes."""
        try:
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._upstream)
        except OSError:
            writer.close()  # the client sees an unavailable broker
            return
        if not await self._authenticated(reader, writer, up_reader, up_writer):
            for end in (writer, up_writer):
                end.close()
            return
        pending: dict[int, _PendingRequest] = {}
        directions = {
            asyncio.create_task(self._forward_requests(reader, up_writer, pending)),
            asyncio.create_task(self._forward_responses(up_reader, writer, pending)),
        }
        _, unfinished = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in unfinished:
            direction.cancel()
        for failure in await asyncio.gather(*directions, return_exceptions=True):
            if not isinstance(failure, (asyncio.CancelledError, asyncio.IncompleteReadError, OSError)):
                logger.error("a connection was closed after an error", exc_info=failure)
        for end in (writer, up_writer):
            end.close()

    async def _authenticated(
        self, reader: StreamReader, writer: StreamWriter, up_reader: StreamReader, up_writer: StreamWriter
    ) -> bool:
        """Returns True if the client has authenticated. Until then it may only ask for the log's API versions."""
        authentication = Authentication(self._known)
        try:
            async with asyncio.timeout(_AUTHENTICATION_S):
                while not authentication.done:
                    request = await _read(reader, _MAX_UNAUTHENTICATED)
                    api, _, _ = _REQUEST.unpack_from(request)
                    if api == _API_VERSIONS:
                        up_writer.write(_SIZE.pack(len(request)) + request)
                        response = await _read(up_reader, _LARGE)
                    elif api == _HANDSHAKE:
                        response = authentication.handshake(request)
                    elif api == _AUTHENTICATE:
                        response = self._reply(authentication, request)
                    else:
                        return False
                    writer.write(_SIZE.pack(len(response)) + response)
                    await writer.drain()
                    if api == _AUTHENTICATE and response == authentication.failure(request):
                        return False
        except (OSError, TimeoutError, asyncio.IncompleteReadError, struct.error, IndexError, ValueError):
            return False
        return True

    @staticmethod
    def _reply(authentication: Authentication, request: bytes) -> bytes:
        try:
            return authentication.authenticate(request)
        except scram.AuthenticationError as error:
            logger.warning("a client of the log is refused: %s", error)
            return authentication.failure(request)

    async def _forward_requests(
        self, reader: StreamReader, writer: StreamWriter, pending: dict[int, _PendingRequest]
    ) -> None:
        while True:
            size = await reader.readexactly(_SIZE.size)
            request = await reader.readexactly(*_SIZE.unpack(size))
            api, version, correlation = _REQUEST.unpack_from(request)
            wait_s = max_wait_s(request) if (api, version) == (_FETCH, _FETCH_VERSION) else 0.0
            pending[correlation] = _PendingRequest(api, version, self._appends.count, wait_s)
            writer.write(size + request)
            await writer.drain()

    async def _forward_responses(
        self, reader: StreamReader, writer: StreamWriter, pending: dict[int, _PendingRequest]
    ) -> None:
        while True:
            size = await reader.readexactly(_SIZE.size)
            response = await reader.readexactly(*_SIZE.unpack(size))
            (correlation,) = _SIZE.unpack_from(response)
            request = pending.pop(correlation, None)
            if request is not None:
                response = await self._process(request, response)
            writer.write(size + response)
            await writer.drain()

    async def _process(self, request: _PendingRequest, response: bytes) -> bytes:
        """Returns the response to forward; delays it if it is empty."""
        if request.api in (_PRODUCE, _END_TRANSACTION):
            self._appends.notify()
        elif request.wait_s and len(response) < _LARGE and is_empty(response):
            await self._appends.wait(request.append_count, request.wait_s)
        elif request.api in _RETURNS_ADDRESSES:
            return response.replace(*self._address)
        return response


async def _read(reader: StreamReader, limit: int) -> bytes:
    """Returns one message. Raises ValueError if it is longer than `limit`."""
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    if not 0 <= size <= limit:
        raise ValueError(f"a message of {size} bytes is too long")
    return await reader.readexactly(size)


async def _serve(listener: socket.socket, proxy: Proxy) -> None:
    server = await asyncio.start_server(proxy.serve_client, sock=listener, limit=1 << 20)
    await wait_for_stop_signal()
    server.close()


def main() -> None:
    """Serves on the loopback `--port` until SIGTERM; the environment contains the password."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--network", default="", help="descriptors of the private network of the upstream")
    args = parser.parse_args()
    logs.configure("log-front", "INFO")
    # The socket belongs to the network in which it was created, so clients outside of the private network reach it.
    listener = socket.create_server((LOOPBACK, args.port), backlog=128)
    if args.network:
        private_network.enter([int(number) for number in args.network.split(",")])
    proxy = Proxy(args.port, args.upstream, scram.credentials(USER, os.environ[PASSWORD_VARIABLE]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(listener, proxy))


if __name__ == "__main__":
    main()
