"""Makes the embedded log wait: a Kafka proxy before noida-db that holds empty fetch responses back.

A broker answers a fetch when there is something, or after `fetch.wait.max.ms`. noida-db answers at once, so every idle
consumer asks it 30,000 times a second and a stack that does nothing keeps more than a processor busy. This proxy
passes everything on as it is, but an empty fetch response only when the log has grown or the consumer's time is over.
It also replaces the log's address by its own where the log names it.
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
from audiotext.embedded.shim import until_told_to_end
from core import logs

_PRODUCE, _FETCH = 0, 1
_NAMES_BROKERS = frozenset({3, 10, 60})  # Metadata, FindCoordinator, DescribeCluster
_END_TRANSACTION = 26
_FETCH_VERSION = 12  # the one librdkafka speaks with noida-db; others are passed on unheld

_log = logging.getLogger(__name__)

_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # API key, version, correlation id
_FETCH_WAIT = struct.Struct(">ii")  # replica id, longest wait in ms
_LARGE = 64 * 1024  # bytes; a fetch response above it is not empty


class Growth:
    """Says when the log has grown: producers pass through here, so nobody has to ask the log."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def happened(self) -> None:
        """Records were appended, or became visible."""
        self.count += 1
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def since(self, count: int, timeout_s: float) -> None:
        """Returns when `count` is over, or after the timeout."""
        if self.count != count:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting, timeout_s)
        self._waiting.discard(waiting)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request whose response is awaited. growth: the count when it was sent."""

    api: int
    version: int
    growth: int
    wait_s: float


def longest_wait_s(request: bytes) -> float:
    """How long the consumer lets a broker wait, from a fetch request of the version we know; 0 if it cannot be told."""
    try:
        (client_id,) = struct.unpack_from(">h", request, _REQUEST.size)
        position = _REQUEST.size + 2 + max(client_id, 0)
        if request[position]:  # tagged fields: nobody sends any here
            return 0.0
        _, wait_ms = _FETCH_WAIT.unpack_from(request, position + 1)
    except (struct.error, IndexError):
        return 0.0
    return float(wait_ms) / 1000


def is_empty(response: bytes) -> bool:
    """Whether a fetch response of the version we know brings neither records nor an error."""
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
    """Reads Kafka's compact encoding. Raises struct.error or IndexError at the end of the data."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, layout: str) -> tuple[int, ...]:
        """Integers of a fixed size."""
        values = struct.unpack_from(layout, self._data, self._position)
        self._position += struct.calcsize(layout)
        return values

    def items(self) -> Iterator[int]:
        """Once per element of a compact array; null counts as empty."""
        return iter(range(self._varint() - 1))

    def skip_bytes(self) -> int:
        """Steps over a compact string or byte field. Returns its length; 0 for null."""
        length = max(self._varint() - 1, 0)
        self._position += length
        return length

    def tags(self) -> None:
        """Steps over tagged fields."""
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
    """Passes connections to `port` on to `upstream`, both on the loopback."""

    def __init__(self, port: int, upstream: int) -> None:
        self._upstream = upstream
        self._growth = Growth()
        # A broker's address is its host as text and its port as four bytes, whatever the version's encoding.
        self._address = (LOOPBACK.encode() + _SIZE.pack(upstream), LOOPBACK.encode() + _SIZE.pack(port))

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serves one client until either side closes."""
        try:
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._upstream)
        except OSError:
            writer.close()  # as a broker that is away
            return
        asked: dict[int, _Asked] = {}
        ways = {
            asyncio.create_task(self._requests(reader, up_writer, asked)),
            asyncio.create_task(self._responses(up_reader, writer, asked)),
        }
        _, open_way = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in open_way:
            way.cancel()
        for failure in await asyncio.gather(*ways, return_exceptions=True):
            if not isinstance(failure, (asyncio.CancelledError, asyncio.IncompleteReadError, OSError)):
                _log.error("a connection was given up", exc_info=failure)
        for end in (writer, up_writer):
            end.close()

    async def _requests(self, reader: StreamReader, writer: StreamWriter, asked: dict[int, _Asked]) -> None:
        while True:
            size = await reader.readexactly(_SIZE.size)
            request = await reader.readexactly(*_SIZE.unpack(size))
            api, version, correlation = _REQUEST.unpack_from(request)
            wait_s = longest_wait_s(request) if (api, version) == (_FETCH, _FETCH_VERSION) else 0.0
            asked[correlation] = _Asked(api, version, self._growth.count, wait_s)
            writer.write(size + request)
            await writer.drain()

    async def _responses(self, reader: StreamReader, writer: StreamWriter, asked: dict[int, _Asked]) -> None:
        while True:
            size = await reader.readexactly(_SIZE.size)
            response = await reader.readexactly(*_SIZE.unpack(size))
            (correlation,) = _SIZE.unpack_from(response)
            request = asked.pop(correlation, None)
            if request is not None:
                response = await self._treated(request, response)
            writer.write(size + response)
            await writer.drain()

    async def _treated(self, request: _Asked, response: bytes) -> bytes:
        if request.api in (_PRODUCE, _END_TRANSACTION):
            self._growth.happened()
        elif request.wait_s and len(response) < _LARGE and is_empty(response):
            await self._growth.since(request.growth, request.wait_s)
        elif request.api in _NAMES_BROKERS:
            return response.replace(*self._address)
        return response


async def _serve(port: int, upstream: int) -> None:
    server = await asyncio.start_server(Proxy(port, upstream).connected, LOOPBACK, port, limit=1 << 20)
    await until_told_to_end()
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
