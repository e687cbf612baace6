"""WebSocket server for media: accepts, reads and closes sockets. gateway.media.session interprets the messages."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from core.http_server import error_response
from core.settings import Settings
from gateway.admission.stream_authorizer import TOO_MANY_UNAUTHENTICATED, StreamAuthorizer
from gateway.carriers.base import Carrier, UnauthorizedError
from gateway.media.idle_timeout import TICK_S, CloseDecision, IdleTimeout
from gateway.media.session import Session, SessionClosedError, Sink
from gateway.metrics import Metrics
from gateway.protection.close_drain import drain_on_close
from gateway.webhooks import incoming_request
from schemas.media import EosReason

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 1.0  # for a closing handshake
_CLOSE_TEXT_BYTES = 123  # RFC 6455: room for text in a close frame, beside the code
_CALL_S = 10.0  # a stream that keeps its limits for this long is not a flood
_FLOODS = frozenset({"oversized", "no-start", "too-fast"})  # causes that no carrier has


class Socket(web.WebSocketResponse[bool]):
    """Media socket with two changes to the library's way of closing.

    If a message is too big, the close frame names the limit; the library sends the code alone. After an error the
    socket discards incoming data while it closes; the library keeps reading until the other side has closed as well.
    """

    def __init__(self, request: web.Request, max_message_bytes: int, protocols: Sequence[str]) -> None:
        super().__init__(
            max_msg_size=max_message_bytes,
            timeout=_CLOSE_TIMEOUT_S,
            protocols=protocols,
            compress=False,  # compression of base64 audio saves little and costs more CPU than everything else
            decode_text=False,
            autoping=False,  # this class must see the answers to its own pings
        )
        self._connection = request.transport

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Closes the socket. See aiohttp."""
        if code == WSCloseCode.MESSAGE_TOO_BIG and not message:
            message = b"the message is too big: raise AUDIOTEXT_GATEWAY__MAX_MESSAGE_BYTES"
        if code not in (WSCloseCode.OK, WSCloseCode.GOING_AWAY) and self._connection is not None and not self.closed:
            drain_on_close(self._connection)
        return await super().close(code=code, message=message, drain=drain)


class MediaSockets:
    """Every open media socket of this process."""

    def __init__(
        self,
        settings: Settings,
        carriers: Mapping[str, Carrier],
        admissions: StreamAuthorizer,
        sink: Sink,
        metrics: Metrics,
    ) -> None:
        self.draining = False
        self._settings = settings
        self._carriers = carriers
        self._sink = sink
        self._metrics = metrics
        self._admissions = admissions
        self._sessions: dict[Socket, Session] = {}
        self._idle_timeouts: dict[Socket, IdleTimeout] = {}
        self._unproven: set[Session] = set()
        self._tasks: set[asyncio.Task[Any]] = set()  # pings and closing handshakes in progress

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serves GET /v1/media/{carrier}."""
        name = request.match_info["carrier"]
        carrier = self._carriers.get(name)
        if carrier is None:
            return self._refused(404, "unknown-carrier", f"unknown carrier: one of {', '.join(self._carriers)}")
        if self.draining:
            return self._refused(503, "draining", "the gateway is shutting down")
        incoming = incoming_request(request, self._settings)
        try:
            admission = self._admissions.authorize(name, carrier, incoming)
        except UnauthorizedError as error:
            logger.warning("%s: media socket refused: %s", name, error)
            return self._refused(403, "unauthorized", error.public)
        if not admission.authenticated and self.unauthenticated_limit_reached():
            return self._refused(503, "unproven", TOO_MANY_UNAUTHENTICATED)
        limits = self._settings.gateway
        socket = Socket(request, limits.max_message_bytes, carrier.subprotocols)
        if not socket.can_prepare(request).ok:
            return self._refused(400, "no-websocket", "this URL accepts WebSocket connections only")
        session = Session(
            name=name,
            decoder=carrier.decoder(self._settings),
            admit=admission,
            sink=self._sink,
            metrics=self._metrics,
            streams=self._admissions.streams,
            gateway=self._admissions.gateway,
            merge_ms=limits.merge_ms,
            alive_s=self._settings.recorder.alive_s,
            max_speed=limits.max_speed,
        )
        opened_s = time.monotonic()
        self._sessions[socket] = session
        self._idle_timeouts[socket] = idle_timeout = IdleTimeout(session, opened_s)
        if not admission.authenticated:
            self._unproven.add(session)
        try:
            await socket.prepare(request)
            within_limits = await self._read(socket, session, idle_timeout, incoming.peer)
            if within_limits and session.started and time.monotonic() - opened_s >= _CALL_S:
                self._admissions.limiter.reset_floods(incoming.peer)
        except ConnectionError:
            pass  # the carrier closed before the gateway answered the upgrade
        finally:
            del self._sessions[socket], self._idle_timeouts[socket]
            self._unproven.discard(session)
            # Ends every stream. After a stop or an error, the stream has already ended and this does nothing.
            session.end(EosReason.GATEWAY_DRAINING if self.draining else EosReason.SOCKET_CLOSED)
        return socket

    def unauthenticated_limit_reached(self) -> bool:
        """True if the limit of sockets that have yet to present a token in their start is reached."""
        self._unproven = {session for session in self._unproven if not session.started}
        return len(self._unproven) >= self._settings.gateway.max_unproven_sockets

    async def watch(self) -> None:
        """Emits old windows and closes idle sockets, until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for socket, idle_timeout in list(self._idle_timeouts.items()):
                decision = idle_timeout.check(now, self._settings.gateway)
                if decision is None or not socket.prepared or socket.closed:
                    continue
                if decision == "ping":
                    self._start_task(_ping(socket))
                else:
                    self._sessions[socket].end(decision.reason)
                    self._close(socket, decision)

    async def drain(self) -> None:
        """Closes every socket with 1001, ends every stream, and refuses new sockets from now on."""
        self.draining = True
        # The readers read the messages that have already arrived before the close frame is sent. The first turn of the
        # event loop wakes the readers, the second lets them read.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing = [
            socket.close(code=WSCloseCode.GOING_AWAY, message=b"gateway draining")
            for socket in self._sessions
            if socket.prepared
        ]
        await asyncio.gather(*closing, return_exceptions=True)
        for session in list(self._sessions.values()):
            session.end(EosReason.GATEWAY_DRAINING)

    async def _read(self, socket: Socket, session: Session, idle_timeout: IdleTimeout, peer: str) -> bool:
        """Reads until the socket is closed. Returns True if no message broke the protocol or a limit."""
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    session.on_text(message.data)
                elif message.type is WSMsgType.BINARY:
                    session.on_binary(message.data)
                elif message.type is WSMsgType.PING:
                    idle_timeout.answered(time.monotonic())
                    await socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    idle_timeout.answered(time.monotonic())
                elif message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
                    # The library has closed the socket with the right code (1009 for a message too big).
                    big = message.data.code == WSCloseCode.MESSAGE_TOO_BIG
                    self._cut_off(session, peer, "oversized" if big else "protocol", message.data.code, message.data)
                    return False
        except SessionClosedError as error:
            self._cut_off(session, peer, error.label, error.code, error)
            await socket.close(code=error.code, message=str(error).encode()[:_CLOSE_TEXT_BYTES])
            return False
        return True

    def _cut_off(self, session: Session, peer: str, label: str, code: int, error: Exception) -> None:
        self._metrics.refused.labels(label).inc()
        if label in _FLOODS:
            self._admissions.limiter.record_flood(peer)
        logger.warning("media socket closed with %d: %s", code, error)
        session.end(EosReason.PROTOCOL_ERROR)

    def _close(self, socket: Socket, decision: CloseDecision) -> None:
        self._metrics.refused.labels(decision.label).inc()
        logger.warning("media socket closed: %s", decision.text)
        self._start_task(
            socket.close(code=WSCloseCode.POLICY_VIOLATION, message=decision.text.encode()[:_CLOSE_TEXT_BYTES])
        )

    def _start_task(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refused(self, status: int, label: str, error: str) -> web.Response:
        self._metrics.refused.labels(label).inc()
        answer = error_response(status, error)
        answer.force_close()  # a refused client must not keep its connection
        return answer


async def _ping(socket: Socket) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):  # the socket has closed; its reader notices that
        await socket.ping()
