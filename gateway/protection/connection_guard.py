"""Limits on connections and requests: rejects clients over their rate limit, and requests that do not arrive in time.

A connection without a complete request costs the gateway a file descriptor and its client nothing. So there is a time
limit for the first request and for each body. If too many connections wait for such bytes, the oldest is closed first,
because a carrier sends its request at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

from aiohttp import web

from core.http_server import HttpHandler, error_response, malformed_target, protocol_factory, read_body
from core.settings import Settings
from gateway.carriers.base import Carrier
from gateway.carriers.common.auth import client_address
from gateway.metrics import Metrics
from gateway.protection.client_limiter import WINDOW_S, ClientLimiter

logger = logging.getLogger(__name__)

MAX_PENDING = 1000
"""Most connections, at the same time, whose first request or whose body is incomplete."""

MAX_BODY_BYTES = 1024 * 1024
"""Largest body of a request; a body without an announced size counts as this many bytes."""

WEBHOOK_PATHS = ("/v1/media", "/v1/voice", "/v1/status")
"""Paths that carriers request, followed by the carrier's name."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConnectionGuard:
    """Applies the time limits to each connection and the rate limits to each request.

    `middleware` must be the application's first middleware.
    """

    def __init__(
        self,
        settings: Settings,
        carriers: Mapping[str, Carrier],
        limiter: ClientLimiter,
        metrics: Metrics,
        max_pending: int = MAX_PENDING,
    ) -> None:
        self._settings = settings
        self._carriers = carriers
        self._timeout_s = settings.gateway.handshake_timeout_s
        self._limiter = limiter
        self._metrics = metrics
        self._max_pending = max_pending
        self._pending: dict[asyncio.Transport, asyncio.TimerHandle] = {}  # oldest first
        self._proxy_reported = False

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Passes a complete request to the handler, unless it is malformed or over a limit."""
        refusal = self._refusal(request) or await self._read_body(request)
        if refusal is None:
            return await handler(request)
        refusal.force_close()
        return refusal

    def factory(self, runner: web.AppRunner, **options: Any) -> Callable[[], asyncio.Protocol]:
        """Returns a protocol factory for `loop.create_server` that guards the runner's connections."""
        return protocol_factory(runner, partial(_GuardedHandler, self), **options)

    def accept(self, transport: asyncio.Transport) -> bool:
        """Starts the time limit of a new connection, or aborts it if its address exceeds a limit.

        Returns True if the connection is accepted.
        """
        peer = (transport.get_extra_info("peername") or ("",))[0]
        if self._limiter.limit_for(peer, shared=False):
            self._metrics.flood.inc()
            transport.abort()
            return False
        self._wait_for(transport, self._timeout_s)
        return True

    def complete(self, transport: asyncio.BaseTransport) -> None:
        """Ends the time limit: the connection's request is complete, or the connection is closed."""
        timer = self._pending.pop(cast(asyncio.Transport, transport), None)
        if timer is not None:
            timer.cancel()

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Returns the response to a request that is malformed or over a limit, by its head; else None."""
        if request.transport is not None:
            self.complete(request.transport)
        if error := malformed_target(request):
            return error_response(400, error)
        client = client_address_of(request, self._settings)
        self._report_proxy(request, client)
        error = self._limiter.admit(client, _body_bytes(request), shared=not self._is_carriers(request))
        if not error:
            return None
        self._metrics.flood.inc()
        status = 429 if self._limiter.limit_for(client, shared=False) else 503
        return error_response(status, error, {"Retry-After": f"{WINDOW_S:.0f}"})

    async def _read_body(self, request: web.Request) -> web.Response | None:
        """Reads the body, so that no handler waits for a client. Returns the response if there is no complete body."""
        transport = request.transport
        if transport is None or not request.body_exists:
            return None
        self._wait_for(transport, self._timeout_s + 1.0)  # the response comes first
        try:
            await read_body(request, self._timeout_s)
        except web.HTTPException as error:
            if self._is_carriers(request):
                reason = {408: "slow", 413: "oversized"}.get(error.status, "malformed")
                self._metrics.refused_webhooks.labels(reason).inc()
            return error_response(error.status, error.text or error.reason)
        finally:
            self.complete(transport)
        return None

    def _is_carriers(self, request: web.Request) -> bool:
        """Returns True if carriers send such requests, whether or not this one comes from a carrier."""
        prefix, _, name = request.path.rpartition("/")
        return prefix in WEBHOOK_PATHS and name in self._carriers and request.method in ("GET", "POST")

    def _wait_for(self, transport: asyncio.Transport, timeout_s: float) -> None:
        """Closes the connection after this time unless its request is complete."""
        if len(self._pending) >= self._max_pending:
            self._abort(next(iter(self._pending)))
        self._pending[transport] = asyncio.get_running_loop().call_later(timeout_s, self._abort, transport)

    def _abort(self, transport: asyncio.Transport) -> None:
        self._pending.pop(transport).cancel()
        if not transport.is_closing():
            self._metrics.refused.labels("handshake").inc()
            transport.abort()

    def _report_proxy(self, request: web.Request, client: str) -> None:
        """Logs once that a proxy hides its clients, which then all have the proxy's address and no request limits."""
        if self._proxy_reported or "X-Forwarded-For" not in request.headers:
            return
        if client == request.remote and self._limiter.is_unlimited(client):
            self._proxy_reported = True
            logger.warning(
                "requests come through a proxy at %s, so no request limits apply to its clients: if the proxy sets "
                'X-Forwarded-For itself, set AUDIOTEXT_GATEWAY__TRUSTED_PROXIES=["%s"]',
                client,
                client,
            )


class _GuardedHandler(HttpHandler):
    """HTTP protocol of one connection that the guard has accepted."""

    __slots__ = ("_guard", "_guarded")

    def __init__(self, guard: ConnectionGuard, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._guarded = transport
        if self._guard.accept(cast(asyncio.Transport, transport)):
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._guard.complete(self._guarded)
        super().connection_lost(exc)


def _body_bytes(request: web.Request) -> int:
    """Returns the body's announced size, or the largest size if none is announced."""
    if request.content_length is not None:
        return request.content_length
    return MAX_BODY_BYTES if request.body_exists else 0


def client_address_of(request: web.Request, settings: Settings) -> str:
    """Returns the client's address; trusted proxies report it in X-Forwarded-For."""
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return client_address(request.remote or "", forwarded, settings.gateway.trusted_proxies)
