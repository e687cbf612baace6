"""New connections: who floods is not listened to, and who says nothing is hung up on, since a silent connection costs
us a descriptor and whoever opens it nothing. When too many are silent at once, the one that has been so longest goes
first: a carrier asks at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from audiotext.settings import Settings
from gateway.access import client_address
from gateway.metrics import Metrics
from gateway.strangers import WINDOW_S, Strangers

MOST_SILENT = 1000
"""Connections that have not made a request yet, at the same time."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Server = Callable[[], asyncio.Protocol]


class Door:
    """Gives each new connection its time, and strangers no more than their requests.

    `middleware` must be the first of the application's.
    """

    def __init__(
        self, settings: Settings, strangers: Strangers, metrics: Metrics, most_silent: int = MOST_SILENT
    ) -> None:
        limits = settings.gateway
        self._timeout_s = limits.handshake_timeout_s
        self._strangers = strangers
        self._metrics = metrics
        self._most_silent = most_silent
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}  # oldest first
        too_many = (
            f"more than {limits.max_stranger_requests} requests in {WINDOW_S:g} s from an address that has proved "
            "nothing: AUDIOTEXT_GATEWAY__MAX_STRANGER_REQUESTS"
        )

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            timer = self._silent.pop(request.protocol, None)
            if timer is not None:
                timer.cancel()
            if strangers.asks(client_of(request, settings)):
                return await handler(request)
            metrics.flood.inc()
            answer = web.json_response({"error": too_many}, status=429, headers={"Retry-After": f"{WINDOW_S:.0f}"})
            answer.force_close()
            return answer

        self.middleware = middleware

    def factory(self, server: Server) -> Server:
        """A protocol factory for `loop.create_server` that watches the connections of `server`."""
        return lambda: _Knock(self, server)

    def let_in(self, transport: asyncio.Transport, server: Server) -> None:
        """Hands a new connection to a protocol of `server`, or closes it."""
        peer = (transport.get_extra_info("peername") or ("",))[0]
        if self._strangers.has_asked_enough(peer):
            self._metrics.flood.inc()
            transport.abort()
            return
        if len(self._silent) >= self._most_silent:
            self._hang_up(next(iter(self._silent)))
        protocol = server()
        self._silent[protocol] = asyncio.get_running_loop().call_later(self._timeout_s, self._hang_up, protocol)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _hang_up(self, protocol: asyncio.BaseProtocol) -> None:
        self._silent.pop(protocol).cancel()
        transport: asyncio.Transport | None = getattr(protocol, "transport", None)
        if transport is not None and not transport.is_closing():
            self._metrics.refused.labels("handshake").inc()
            transport.abort()


class _Knock(asyncio.Protocol):
    """A connection that has just been made: what a real protocol costs is spent on those let in only."""

    def __init__(self, door: Door, server: Server) -> None:
        self._door = door
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.let_in(cast(asyncio.Transport, transport), self._server)


def client_of(request: web.Request, settings: Settings) -> str:
    """The address of who asks, as far as trusted proxies tell it."""
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return client_address(request.remote or "", forwarded, settings.gateway.trusted_proxies)
