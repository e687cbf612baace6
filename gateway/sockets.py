"""The media sockets: upgrade, read, close. What the messages mean is session.py's affair."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from audiotext.settings import Settings
from gateway.carriers import Carrier, Proof, UnauthorizedError
from gateway.metrics import Metrics
from gateway.session import Session, SessionClosedError, Sink, StreamKey
from schemas.media import EosReason

log = logging.getLogger(__name__)

_TICK_S = 0.1  # how often windows and idle sockets are looked at
_CLOSE_TIMEOUT_S = 1.0  # how long a closing handshake may take
_CLOSE_TEXT_BYTES = 123  # RFC 6455: what fits into a close frame beside the code

Socket = web.WebSocketResponse[bool]


@dataclass(slots=True, eq=False)
class _Live:
    """An open socket. heard_at: when it last was seen to have said more than before (monotonic)."""

    socket: Socket
    session: Session
    heard_at: float
    messages: int = 0


class MediaSockets:
    """Every open media socket of this process."""

    def __init__(self, settings: Settings, carriers: Mapping[str, Carrier], sink: Sink, metrics: Metrics) -> None:
        self.draining = False
        self._settings = settings
        self._carriers = carriers
        self._sink = sink
        self._metrics = metrics
        self._streams: Counter[StreamKey] = Counter()
        self._live: set[_Live] = set()
        self._closing: set[asyncio.Task[bool]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/media/{carrier}."""
        name = request.match_info["carrier"]
        carrier = self._carriers.get(name)
        if carrier is None:
            return self._refused(404, "unknown-carrier", f"unknown carrier: one of {', '.join(self._carriers)}")
        if self.draining:
            return self._refused(503, "draining", "the gateway is shutting down")
        try:
            carrier.authorize_socket(Proof(request.raw_path, request.headers), self._settings)
        except UnauthorizedError as error:
            log.warning("%s: media socket refused: %s", name, error)
            return self._refused(403, "unauthorized", "forbidden")
        socket = web.WebSocketResponse(
            max_msg_size=self._settings.gateway.max_message_bytes,
            timeout=_CLOSE_TIMEOUT_S,
            protocols=carrier.subprotocols,
            compress=False,  # base64 of audio gains little and costs more than all the rest
            decode_text=False,
        )
        if not socket.can_prepare(request).ok:
            return self._refused(400, "no-websocket", "this is a WebSocket's address")
        session = Session(
            name=name,
            decoder=carrier.decoder(self._settings),
            tenant=carrier.tenant(self._settings),
            sink=self._sink,
            metrics=self._metrics,
            streams=self._streams,
            merge_ms=self._settings.gateway.merge_ms,
        )
        live = _Live(socket, session, time.monotonic())
        self._live.add(live)
        try:
            await socket.prepare(request)
            await self._read(socket, session)
        except ConnectionError:
            pass  # the carrier was gone before the upgrade was answered
        finally:
            self._live.discard(live)
            # First, so that a stream never stays without its end; a stop or an error has ended it before.
            session.end(EosReason.GATEWAY_DRAINING if self.draining else EosReason.SOCKET_CLOSED)
        return socket

    async def watch(self) -> None:
        """Hands on old windows and closes idle sockets, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for live in list(self._live):
                live.session.tick(now)
                if live.session.messages != live.messages:
                    live.messages, live.heard_at = live.session.messages, now
                elif now - live.heard_at > self._settings.gateway.idle_timeout_s and not live.socket.closed:
                    self._metrics.refused.labels("idle").inc()
                    self._close_idle(live.socket)

    async def drain(self) -> None:
        """Closes every socket with 1001 and ends every stream; new sockets are refused from now on."""
        self.draining = True
        # What has been received already is read before the close frame: one turn wakes the readers, one lets them read.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing = [
            live.socket.close(code=WSCloseCode.GOING_AWAY, message=b"gateway draining")
            for live in self._live
            if live.socket.prepared
        ]
        await asyncio.gather(*closing, return_exceptions=True)
        for live in list(self._live):
            live.session.end(EosReason.GATEWAY_DRAINING)

    async def _read(self, socket: Socket, session: Session) -> None:
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    session.on_text(message.data)
                elif message.type is WSMsgType.BINARY:
                    session.on_binary(message.data)
                elif message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
                    # The library has closed the socket with the right code (1009 for a message too big).
                    big = message.data.code == WSCloseCode.MESSAGE_TOO_BIG
                    self._metrics.refused.labels("oversized" if big else "protocol").inc()
                    log.warning("media socket closed with %d: %s", message.data.code, message.data)
                    session.end(EosReason.PROTOCOL_ERROR)
        except SessionClosedError as error:
            self._metrics.refused.labels(error.label).inc()
            session.end(EosReason.PROTOCOL_ERROR)
            await socket.close(code=error.code, message=str(error).encode()[:_CLOSE_TEXT_BYTES])

    def _close_idle(self, socket: Socket) -> None:
        text = f"no message for {self._settings.gateway.idle_timeout_s:g} s".encode()
        task = asyncio.ensure_future(socket.close(code=WSCloseCode.POLICY_VIOLATION, message=text))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _refused(self, status: int, label: str, error: str) -> web.Response:
        self._metrics.refused.labels(label).inc()
        return web.json_response({"error": error}, status=status)
