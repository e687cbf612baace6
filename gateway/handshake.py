"""Connections that never make a request are closed: they would cost us a descriptor each, and whoever opens them
nothing. When too many are silent at once, the one that has been so longest goes first: a carrier asks at once."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.metrics import Metrics

MOST_SILENT = 1000
"""Connections that have not made a request yet, at the same time."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HandshakeTimeout:
    """Gives each new connection its time. `middleware` must be among the application's."""

    def __init__(self, timeout_s: float, metrics: Metrics, most_silent: int = MOST_SILENT) -> None:
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._most_silent = most_silent
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}  # oldest first

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            timer = self._silent.pop(request.protocol, None)
            if timer is not None:
                timer.cancel()
            return await handler(request)

        self.middleware = middleware

    def factory(self, server: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """A protocol factory for `loop.create_server` that watches the connections of `server`."""

        def connected() -> asyncio.Protocol:
            protocol = server()
            if len(self._silent) >= self._most_silent:
                self._hang_up(next(iter(self._silent)))
            self._silent[protocol] = asyncio.get_running_loop().call_later(self._timeout_s, self._hang_up, protocol)
            return protocol

        return connected

    def _hang_up(self, protocol: asyncio.BaseProtocol) -> None:
        self._silent.pop(protocol).cancel()
        transport: asyncio.Transport | None = getattr(protocol, "transport", None)
        if transport is not None and not transport.is_closing():
            self._metrics.refused.labels("handshake").inc()
            transport.abort()
