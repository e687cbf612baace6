"""The media sockets: upgrade, read, close. What the messages mean is session.py's affair."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from core.settings import Settings
from gateway.admission.stream_authorizer import TOO_MANY_UNPROVEN, StreamAuthorizer
from gateway.carriers.base import Carrier, UnauthorizedError
from gateway.media.idle_timeout import TICK_S, CloseDecision, IdleTimeout
from gateway.media.session import Session, SessionClosedError, Sink
from gateway.metrics import Metrics
from gateway.protection.close_drain import drain_on_close
from gateway.webhooks import proof_of
from schemas.media import EosReason

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 1.0  # how long a closing handshake may take
_CLOSE_TEXT_BYTES = 123  # RFC 6455: what fits into a close frame beside the code
_CALL_S = 10.0  # a stream that lives so long, within its limits, is no flood
_FLOODS = frozenset({"oversized", "no-start", "too-fast"})  # why sockets are cut off that send what no carrier does


class Socket(web.WebSocketResponse[bool]):
    """A media socket that says which limit a message was too big for: the library closes with the code alone. And who
    is hung up on is not listened to while it closes: the library reads on until the other side has closed as well."""

    def __init__(self, request: web.Request, max_message_bytes: int, protocols: Sequence[str]) -> None:
        super().__init__(
            max_msg_size=max_message_bytes,
            timeout=_CLOSE_TIMEOUT_S,
            protocols=protocols,
            compress=False,  # base64 of audio gains little and costs more than all the rest
            decode_text=False,
            autoping=False,  # the answers to our own pings have to be seen
        )
        self._connection = request.transport

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Closes; see the library."""
        if code == WSCloseCode.MESSAGE_TOO_BIG and not message:
            message = b"message too big: AUDIOTEXT_GATEWAY__MAX_MESSAGE_BYTES"
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
        self._live: dict[Socket, Session] = {}
        self._watched: dict[Socket, IdleTimeout] = {}
        self._unproven: set[Session] = set()
        self._errands: set[asyncio.Task[Any]] = set()  # pings and closing handshakes under way

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/media/{carrier}."""
        name = request.match_info["carrier"]
        carrier = self._carriers.get(name)
        if carrier is None:
            return self._refused(404, "unknown-carrier", f"unknown carrier: one of {', '.join(self._carriers)}")
        if self.draining:
            return self._refused(503, "draining", "the gateway is shutting down")
        proof = proof_of(request, self._settings)
        try:
            admission = self._admissions.authorize(name, carrier, proof)
        except UnauthorizedError as error:
            log.warning("%s: media socket refused: %s", name, error)
            return self._refused(403, "unauthorized", "forbidden")
        if not admission.proven and self.unauthenticated_limit_reached():
            return self._refused(503, "unproven", TOO_MANY_UNPROVEN)
        limits = self._settings.gateway
        socket = Socket(request, limits.max_message_bytes, carrier.subprotocols)
        if not socket.can_prepare(request).ok:
            return self._refused(400, "no-websocket", "this is a WebSocket's address")
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
        self._live[socket] = session
        self._watched[socket] = watched = IdleTimeout(session, opened_s)
        if not admission.proven:
            self._unproven.add(session)
        try:
            await socket.prepare(request)
            kept_to_limits = await self._read(socket, session, watched, proof.peer)
            if kept_to_limits and session.started and time.monotonic() - opened_s >= _CALL_S:
                self._admissions.strangers.kept_pace(proof.peer)
        except ConnectionError:
            pass  # the carrier was gone before the upgrade was answered
        finally:
            del self._live[socket], self._watched[socket]
            self._unproven.discard(session)
            # First, so that a stream never stays without its end; a stop or an error has ended it before.
            session.end(EosReason.GATEWAY_DRAINING if self.draining else EosReason.SOCKET_CLOSED)
        return socket

    def unauthenticated_limit_reached(self) -> bool:
        """Whether as many sockets wait for the token in their start as may at once."""
        self._unproven = {session for session in self._unproven if not session.started}
        return len(self._unproven) >= self._settings.gateway.max_unproven_sockets

    async def watch(self) -> None:
        """Hands on old windows and closes sockets that have to go, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for socket, watched in list(self._watched.items()):
                verdict = watched.check(now, self._settings.gateway)
                if verdict is None or not socket.prepared or socket.closed:
                    continue
                if verdict == "ping":
                    self._run(_pinged(socket))
                else:
                    self._live[socket].end(verdict.reason)
                    self._close(socket, verdict)

    async def drain(self) -> None:
        """Closes every socket with 1001 and ends every stream; new sockets are refused from now on."""
        self.draining = True
        # What has been received already is read before the close frame: one turn wakes the readers, one lets them read.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing = [
            socket.close(code=WSCloseCode.GOING_AWAY, message=b"gateway draining")
            for socket in self._live
            if socket.prepared
        ]
        await asyncio.gather(*closing, return_exceptions=True)
        for session in list(self._live.values()):
            session.end(EosReason.GATEWAY_DRAINING)

    async def _read(self, socket: Socket, session: Session, watched: IdleTimeout, peer: str) -> bool:
        """Until the socket is closed. Returns whether nothing was wrong with what came."""
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    session.on_text(message.data)
                elif message.type is WSMsgType.BINARY:
                    session.on_binary(message.data)
                elif message.type is WSMsgType.PING:
                    watched.answered(time.monotonic())
                    await socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    watched.answered(time.monotonic())
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
            self._admissions.strangers.flooded(peer)
        log.warning("media socket closed with %d: %s", code, error)
        session.end(EosReason.PROTOCOL_ERROR)

    def _close(self, socket: Socket, verdict: CloseDecision) -> None:
        self._metrics.refused.labels(verdict.label).inc()
        log.warning("media socket closed: %s", verdict.text)
        self._run(socket.close(code=WSCloseCode.POLICY_VIOLATION, message=verdict.text.encode()[:_CLOSE_TEXT_BYTES]))

    def _run(self, errand: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _refused(self, status: int, label: str, error: str) -> web.Response:
        self._metrics.refused.labels(label).inc()
        answer = web.json_response({"error": error}, status=status)
        answer.force_close()  # nobody whom we refuse keeps a connection
        return answer


async def _pinged(socket: Socket) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):  # it closed meanwhile, and its reader finds out
        await socket.ping()
