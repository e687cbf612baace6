"""Limits on new connections: rejects clients over their rate limit and closes connections without a request.

An idle connection costs the gateway a file descriptor and its client nothing. If too many connections are idle, the
oldest is closed first, because a carrier sends its request at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from core.settings import Settings
from gateway.carriers.common.auth import client_address
from gateway.metrics import Metrics
from gateway.protection.client_limiter import WINDOW_S, ClientLimiter
from gateway.protection.request_prefilter import RequestPrefilter

MAX_IDLE_CONNECTIONS = 1000
"""Most connections without a request yet, at the same time."""

_UNKNOWN_BODY_BYTES = 64 * 1024  # assumed size of a body of unknown length

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Server = Callable[[], asyncio.Protocol]


class ConnectionGuard:
    """Applies the handshake timeout to each new connection and the rate limits to each request.

    `middleware` must be the application's first middleware.
    """

    def __init__(
        self,
        settings: Settings,
        limiter: ClientLimiter,
        metrics: Metrics,
        prefilter: RequestPrefilter,
        max_idle: int = MAX_IDLE_CONNECTIONS,
    ) -> None:
        self.prefilter = prefilter
        self._timeout_s = settings.gateway.handshake_timeout_s
        self._limiter = limiter
        self._metrics = metrics
        self._max_idle = max_idle
        self._idle: dict[asyncio.Transport, asyncio.TimerHandle] = {}  # oldest first

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.transport is not None:
                self.mark_active(request.transport)
            client = client_address_of(request, settings)
            shared = not prefilter.is_webhook(request.method, request.path)
            error = limiter.admit(client, _body_bytes(request), shared=shared)
            if not error:
                return await handler(request)
            metrics.flood.inc()
            status = 429 if limiter.limit_for(client, shared=False) else 503
            response = web.json_response({"error": error}, status=status, headers={"Retry-After": f"{WINDOW_S:.0f}"})
            response.force_close()
            return response

        self.middleware = middleware

    def factory(self, server: Server) -> Server:
        """Returns a protocol factory for `loop.create_server` that guards the connections of `server`."""
        return lambda: _PendingConnection(self, server)

    def accept(self, transport: asyncio.Transport, peer: str) -> bool:
        """Starts the handshake timeout of a new connection, or aborts it if its address exceeds a limit.

        Returns True if the connection is accepted.
        """
        if self._limiter.limit_for(peer, shared=False):
            self._metrics.flood.inc()
            transport.abort()
            return False
        if len(self._idle) >= self._max_idle:
            self._abort(next(iter(self._idle)))
        self._idle[transport] = asyncio.get_running_loop().call_later(self._timeout_s, self._abort, transport)
        return True

    def is_exempt(self, peer: str) -> bool:
        """Returns True if the prefilter does not apply to this address."""
        return self._limiter.is_exempt(peer)

    def mark_active(self, transport: asyncio.Transport) -> None:
        """Ends the handshake timeout: the connection has sent a request, or is closed."""
        timer = self._idle.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _abort(self, transport: asyncio.Transport) -> None:
        self._idle.pop(transport).cancel()
        if not transport.is_closing():
            self._metrics.refused.labels("handshake").inc()
            transport.abort()


class _PendingConnection(asyncio.Protocol):
    """New connection before its first request. The HTTP protocol object is created only for accepted requests."""

    def __init__(self, guard: ConnectionGuard, server: Server) -> None:
        self._guard = guard
        self._server = server
        self._peer = ""
        self._received = b""
        self._needed_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = (transport.get_extra_info("peername") or ("",))[0]
        if self._guard.accept(self._transport, self._peer) and self._guard.is_exempt(self._peer):
            self._hand_over()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < self._needed_bytes:
            return
        verdict = self._guard.prefilter(self._received, self._peer)
        if verdict is None:
            self._hand_over()
        elif isinstance(verdict, int):
            self._needed_bytes = verdict
        else:
            self._guard.mark_active(self._transport)
            self._transport.write(verdict)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._guard.mark_active(self._transport)

    def _hand_over(self) -> None:
        protocol = self._server()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._received:
            protocol.data_received(self._received)


def _body_bytes(request: web.Request) -> int:
    """Returns the body's announced size, or a large assumed size if none is announced."""
    if request.content_length is not None:
        return request.content_length
    return _UNKNOWN_BODY_BYTES if request.body_exists else 0


def client_address_of(request: web.Request, settings: Settings) -> str:
    """Returns the client's address; trusted proxies report it in X-Forwarded-For."""
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return client_address(request.remote or "", forwarded, settings.gateway.trusted_proxies)
