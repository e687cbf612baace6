"""New connections: who floods is not listened to, and who says nothing is hung up on, since a silent connection costs
us a descriptor and whoever opens it nothing. When too many are silent at once, the one that has been so longest goes
first: a carrier asks at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from core.settings import Settings
from gateway.carriers.common.auth import client_address
from gateway.metrics import Metrics
from gateway.protection.client_limiter import WINDOW_S, ClientLimiter
from gateway.protection.request_prefilter import RequestPrefilter

MOST_SILENT = 1000
"""Connections that have not made a request yet, at the same time."""

_UNANNOUNCED = 64 * 1024  # octets that a body of unknown length is taken for

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Server = Callable[[], asyncio.Protocol]


class ConnectionGuard:
    """Gives each new connection its time, and strangers no more than their requests.

    `middleware` must be the first of the application's.
    """

    def __init__(
        self,
        settings: Settings,
        strangers: ClientLimiter,
        metrics: Metrics,
        first_look: RequestPrefilter,
        most_silent: int = MOST_SILENT,
    ) -> None:
        self.first_look = first_look
        self._timeout_s = settings.gateway.handshake_timeout_s
        self._strangers = strangers
        self._metrics = metrics
        self._most_silent = most_silent
        self._silent: dict[asyncio.Transport, asyncio.TimerHandle] = {}  # oldest first

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.transport is not None:
                self.mark_active(request.transport)
            client = client_of(request, settings)
            in_crowd = not first_look.is_webhook(request.method, request.path)
            too_many = strangers.admit(client, _body_octets(request), in_crowd=in_crowd)
            if not too_many:
                return await handler(request)
            metrics.flood.inc()
            status = 429 if strangers.limit_for(client, in_crowd=False) else 503
            answer = web.json_response({"error": too_many}, status=status, headers={"Retry-After": f"{WINDOW_S:.0f}"})
            answer.force_close()
            return answer

        self.middleware = middleware

    def factory(self, server: Server) -> Server:
        """A protocol factory for `loop.create_server` that watches the connections of `server`."""
        return lambda: _PendingConnection(self, server)

    def accept(self, transport: asyncio.Transport, peer: str) -> bool:
        """Whether a new connection may speak; from now on it has its time. Else it is closed."""
        if self._strangers.limit_for(peer, in_crowd=False):
            self._metrics.flood.inc()
            transport.abort()
            return False
        if len(self._silent) >= self._most_silent:
            self._hang_up(next(iter(self._silent)))
        self._silent[transport] = asyncio.get_running_loop().call_later(self._timeout_s, self._hang_up, transport)
        return True

    def knows(self, peer: str) -> bool:
        """Whether this address needs no first look."""
        return self._strangers.is_known(peer)

    def mark_active(self, transport: asyncio.Transport) -> None:
        """The connection has made its request, or is gone."""
        timer = self._silent.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _hang_up(self, transport: asyncio.Transport) -> None:
        self._silent.pop(transport).cancel()
        if not transport.is_closing():
            self._metrics.refused.labels("handshake").inc()
            transport.abort()


class _PendingConnection(asyncio.Protocol):
    """A connection that has just been made: what a real protocol costs is spent on those let in only."""

    def __init__(self, door: ConnectionGuard, server: Server) -> None:
        self._door = door
        self._server = server
        self._peer = ""
        self._said = b""
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = (transport.get_extra_info("peername") or ("",))[0]
        if self._door.accept(self._transport, self._peer) and self._door.knows(self._peer):
            self._let_in()

    def data_received(self, data: bytes) -> None:
        self._said += data
        if len(self._said) < self._needed:
            return
        verdict = self._door.first_look(self._said, self._peer)
        if verdict is None:
            self._let_in()
        elif isinstance(verdict, int):
            self._needed = verdict
        else:
            self._door.mark_active(self._transport)
            self._transport.write(verdict)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._door.mark_active(self._transport)

    def _let_in(self) -> None:
        protocol = self._server()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._said:
            protocol.data_received(self._said)


def _body_octets(request: web.Request) -> int:
    """As announced; what is not announced is taken for large."""
    if request.content_length is not None:
        return request.content_length
    return _UNANNOUNCED if request.body_exists else 0


def client_of(request: web.Request, settings: Settings) -> str:
    """The address of who asks, as far as trusted proxies tell it."""
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return client_address(request.remote or "", forwarded, settings.gateway.trusted_proxies)
