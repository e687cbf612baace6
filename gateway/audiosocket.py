"""The TCP port for Asterisk's AudioSocket: connections, packets, ends. What packets mean is the decoder's affair."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import time
from collections import Counter
from dataclasses import dataclass

from audiotext.settings import Settings
from gateway.carriers import Carrier
from gateway.carriers.audiosocket import HEADER
from gateway.metrics import Metrics
from gateway.session import Session, SessionClosedError, Sink, StreamKey
from schemas.media import EosReason

log = logging.getLogger(__name__)

_NAME = "audiosocket"
_TICK_S = 0.1  # how often windows and idle connections are looked at
_BUFFER_BYTES = 64 * 1024  # read ahead of the session: two seconds at 16 kHz


@dataclass(slots=True, eq=False)
class _Live:
    """An open connection. heard_at: when it last was seen to have said more than before (monotonic)."""

    writer: asyncio.StreamWriter
    session: Session
    heard_at: float
    messages: int = 0


class AudioSocketServer:
    """Every AudioSocket connection of this process. Closed unless a port is configured."""

    def __init__(self, settings: Settings, carrier: Carrier, sink: Sink, metrics: Metrics) -> None:
        self._settings = settings
        self._carrier = carrier
        self._sink = sink
        self._metrics = metrics
        self._streams: Counter[StreamKey] = Counter()
        self._live: set[_Live] = set()
        self._draining = False
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens, if a port is configured. Raises SystemExit, naming the setting, if that cannot be."""
        host, port = self._settings.audiosocket.host, self._settings.audiosocket.port
        if port is None:
            return
        if not self._settings.audiosocket.allowed_peers:
            log.warning("every AudioSocket connection will be refused: set AUDIOTEXT_AUDIOSOCKET__ALLOWED_PEERS")
        try:
            self._server = await asyncio.start_server(self._handle, host, port, limit=_BUFFER_BYTES)
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
            raise SystemExit(f"port {port} on {host} {why}: choose another with AUDIOTEXT_AUDIOSOCKET__PORT") from None
        self._watch = asyncio.ensure_future(self._watch_over())
        log.info("AudioSocket connections are taken on %s:%d", host, port)

    async def drain(self) -> None:
        """Closes the port and every connection, and ends every stream."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)  # what has been received already is read first
        for live in list(self._live):
            live.session.end(EosReason.GATEWAY_DRAINING)
            live.writer.close()
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        if self._draining or not self._allowed(peer):
            self._metrics.refused.labels("draining" if self._draining else "unauthorized").inc()
            log.warning("%s: connection from %s refused", _NAME, peer)
            writer.close()
            return
        session = Session(
            name=_NAME,
            decoder=self._carrier.decoder(self._settings),
            tenant=self._carrier.tenant(self._settings),
            sink=self._sink,
            metrics=self._metrics,
            streams=self._streams,
            merge_ms=self._settings.gateway.merge_ms,
        )
        live = _Live(writer, session, time.monotonic())
        self._live.add(live)
        try:
            await _read(reader, session)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the connection's end, on a packet's border or not
        except SessionClosedError as error:
            self._metrics.refused.labels(error.label).inc()
            log.warning("%s: connection from %s closed: %s", _NAME, peer, error)
            session.end(EosReason.PROTOCOL_ERROR)
        finally:
            self._live.discard(live)
            session.end(EosReason.GATEWAY_DRAINING if self._draining else EosReason.SOCKET_CLOSED)
            writer.close()

    def _allowed(self, peer: str) -> bool:
        address = ipaddress.ip_address(peer.partition("%")[0])
        # A socket for both families shows IPv4 as ::ffff:a.b.c.d.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._settings.audiosocket.allowed_peers)

    async def _watch_over(self) -> None:
        """Hands on old windows and closes idle connections, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for live in list(self._live):
                live.session.tick(now)
                if live.session.messages != live.messages:
                    live.messages, live.heard_at = live.session.messages, now
                elif now - live.heard_at > self._settings.gateway.idle_timeout_s:
                    self._metrics.refused.labels("idle").inc()
                    live.writer.close()


async def _read(reader: asyncio.StreamReader, session: Session) -> None:
    """Packets to the session, for ever. A packet is 64 KiB at most: its length has 16 bits."""
    while True:
        header = await reader.readexactly(HEADER.size)
        content = await reader.readexactly(HEADER.unpack(header)[1])
        session.on_binary(header + content)
