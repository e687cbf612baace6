"""Kafka proxy in front of noida-db that delays empty fetch responses.

A Kafka broker answers a fetch when it has records, or after `fetch.wait.max.ms`. noida-db answers at once, so every
idle consumer sends 30,000 requests per second, and an idle stack uses more than one processor. This proxy forwards
everything unchanged, except an empty fetch response: it waits until the log has grown or the consumer's wait time is
over. It also replaces the log's address with its own in responses that contain it.
"""

import argparse
import asyncio
import contextlib
import logging
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from dataclasses import dataclass

import uvloop

from audiotext.embedded.server import LOOPBACK
from audiotext.embedded.shim import wait_for_stop_signal
from core import logs

_PRODUCE, _FETCH = 0, 1
_RETURNS_ADDRESSES = frozenset({3, 10, 60})  # Metadata, FindCoordinator, DescribeCluster
_END_TRANSACTION = 26
_FETCH_VERSION = 12  # the version that librdkafka uses with noida-db; others are forwarded without delay

logger = logging.getLogger(__name__)

_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # API key, version, correlation id
_FETCH_WAIT = struct.Struct(">ii")  # replica id, longest wait in ms
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


class Proxy:
    """Proxy from `port` to `upstream`, both on the loopback interface."""

    def __init__(self, port: int, upstream: int) -> None:
        self._upstream = upstream
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


async def _serve(port: int, upstream: int) -> None:
    server = await asyncio.start_server(Proxy(port, upstream).serve_client, LOOPBACK, port, limit=1 << 20)
    await wait_for_stop_signal()
    server.close()


def main() -> None:
    """Serves on the loopback `--port` until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    args = parser.parse_args()
    logs.configure("log-front", "INFO")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(args.port, args.upstream))


if __name__ == "__main__":
    main()
