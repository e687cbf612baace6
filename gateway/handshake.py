"""Connections that never make a request are closed: they would cost us a descriptor each, and whoever opens them
nothing."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HandshakeTimeout:
    """Gives each new connection its time. `middleware` must be among the application's."""

    def __init__(self, timeout_s: float, metrics: Metrics) -> None:
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._silent: set[asyncio.BaseProtocol] = set()

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._silent.discard(request.protocol)
            return await handler(request)

        self.middleware = middleware

    def factory(self, server: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """A protocol factory for `loop.create_server` that watches the connections of `server`."""

        def connected() -> asyncio.Protocol:
            protocol = server()
            self._silent.add(protocol)
            asyncio.get_running_loop().call_later(self._timeout_s, self._look, protocol)
            return protocol

        return connected

    def _look(self, protocol: asyncio.Protocol) -> None:
        if protocol not in self._silent:
            return
        self._silent.discard(protocol)
        transport: asyncio.Transport | None = getattr(protocol, "transport", None)
        if transport is not None and not transport.is_closing():
            self._metrics.refused.labels("handshake").inc()
            transport.abort()
