"""TCP server for Asterisk's AudioSocket. It accepts connections, reads packets, and gives them to the decoder."""

import asyncio
import contextlib
import errno
import logging
import socket
import time
from dataclasses import dataclass

from core.settings import Settings
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers.audiosocket import HEADER
from gateway.carriers.base import Carrier
from gateway.carriers.common.auth import from_network
from gateway.media.idle_timeout import TICK_S, CloseDecision, IdleTimeout
from gateway.media.session import Session, SessionClosedError, Sink
from gateway.metrics import Metrics
from schemas.media import EosReason

logger = logging.getLogger(__name__)

_NAME = "audiosocket"
_BUFFER_BYTES = 64 * 1024  # read ahead of the session: two seconds at 16 kHz


@dataclass(slots=True, eq=False)
class _Connection:
    """An open connection."""

    writer: asyncio.StreamWriter
    session: Session
    idle_timeout: IdleTimeout


class AudioSocketServer:
    """Every AudioSocket connection of this process. The server listens only if a port is configured."""

    def __init__(
        self, settings: Settings, carrier: Carrier, admissions: StreamAuthorizer, sink: Sink, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._carrier = carrier
        self._sink = sink
        self._metrics = metrics
        self._admissions = admissions
        self._connections: set[_Connection] = set()
        self._draining = False
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens, if a port is configured. Raises SystemExit, which names the setting, if it cannot."""
        host, port = self._settings.audiosocket.host, self._settings.audiosocket.port
        if port is None:
            return
        if not self._settings.audiosocket.allowed_peers:
            logger.warning("the gateway refuses every AudioSocket connection: set AUDIOTEXT_AUDIOSOCKET__ALLOWED_PEERS")
        try:
            self._server = await asyncio.start_server(self._handle, host, port, limit=_BUFFER_BYTES)
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"is unusable ({error.strerror})"
            raise SystemExit(f"port {port} on {host} {why}: choose another with AUDIOTEXT_AUDIOSOCKET__PORT") from None
        self._watch = asyncio.ensure_future(self._watch_connections())
        logger.info("listening for AudioSocket connections on %s:%d", host, port)

    async def drain(self) -> None:
        """Closes the port and every connection, and ends every stream."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)  # the readers first read the bytes that have already arrived
        for connection in list(self._connections):
            connection.session.end(EosReason.GATEWAY_DRAINING)
            connection.writer.close()
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        if self._draining or not from_network(peer, self._settings.audiosocket.allowed_peers):
            self._metrics.refused.labels("draining" if self._draining else "unauthorized").inc()
            logger.warning("%s: connection from %s refused", _NAME, peer)
            writer.close()
            return
        session = Session(
            name=_NAME,
            decoder=self._carrier.decoder(self._settings),
            admit=self._admissions.for_tenant(self._settings.audiosocket.tenant),
            sink=self._sink,
            metrics=self._metrics,
            streams=self._admissions.streams,
            gateway=self._admissions.gateway,
            merge_ms=self._settings.gateway.merge_ms,
            alive_s=self._settings.recorder.alive_s,
            max_speed=self._settings.gateway.max_speed,
        )
        enable_keepalive(writer, self._settings.gateway.ping_interval_s)
        connection = _Connection(writer, session, IdleTimeout(session, time.monotonic(), pings=False))
        self._connections.add(connection)
        try:
            await _read(reader, session)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the connection ended, possibly within a packet
        except OSError as error:  # no answer to TCP's probes: a time-out, or no route
            logger.warning("%s: connection from %s lost: %s", _NAME, peer, error)
            session.end(EosReason.PEER_GONE)
        except SessionClosedError as error:
            self._metrics.refused.labels(error.label).inc()
            logger.warning("%s: connection from %s closed: %s", _NAME, peer, error)
            session.end(EosReason.PROTOCOL_ERROR)
        finally:
            self._connections.discard(connection)
            session.end(EosReason.GATEWAY_DRAINING if self._draining else EosReason.SOCKET_CLOSED)
            writer.close()

    async def _watch_connections(self) -> None:
        """Emits old windows and closes idle connections, until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for connection in list(self._connections):
                decision = connection.idle_timeout.check(now, self._settings.gateway)
                if isinstance(decision, CloseDecision) and not connection.writer.is_closing():
                    connection.session.end(decision.reason)
                    self._metrics.refused.labels(decision.label).inc()
                    logger.warning("%s: connection closed: %s", _NAME, decision.text)
                    connection.writer.close()


def enable_keepalive(writer: asyncio.StreamWriter, interval_s: float) -> None:
    """Makes TCP probe a silent connection at this interval, and close it after three probes without an answer."""
    tcp: socket.socket = writer.get_extra_info("socket")
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        tcp.setsockopt(socket.IPPROTO_TCP, option, max(1, round(interval_s)))
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)


async def _read(reader: asyncio.StreamReader, session: Session) -> None:
    """Reads packets and passes them to the session, until the connection ends.

    A packet has at most 64 KiB, because its length has 16 bits.
    """
    while True:
        header = await reader.readexactly(HEADER.size)
        content = await reader.readexactly(HEADER.unpack(header)[1])
        session.on_binary(header + content)
