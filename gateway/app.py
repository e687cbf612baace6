"""The gateway: media sockets, webhooks, health and metrics. All other requests are forwarded to the API.

A gateway keeps no state beyond a call, so any number of gateways can run behind a load balancer.
"""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import uvloop
from aiohttp import web

from core import http_server, process
from core.settings import Settings
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers import load_carriers
from gateway.media.audiosocket_server import AudioSocketServer
from gateway.media.websocket_server import MediaSockets
from gateway.metrics import Metrics
from gateway.producer.log_producer import LogProducer
from gateway.protection.client_limiter import ClientLimiter
from gateway.protection.connection_guard import MAX_BODY_BYTES, ConnectionGuard, client_address_of
from gateway.provider_callbacks import ProviderCallbacks
from gateway.proxy import Proxy
from gateway.readiness import Readiness
from gateway.webhooks import Webhooks
from redpanda.client import LogUnavailableError
from schemas.provider_callbacks import WEBHOOK_PATH

logger = logging.getLogger(__name__)

# The proxy forwards the body as received. A decompressed body would not have the announced length, and the rest would
# be taken from another client's request on the same connection to the API.
_HTTP_OPTIONS: dict[str, Any] = {"auto_decompress": False}

_AUTHENTICATED_PREFIX = "/v1/"  # a successful response of the API below this path means that the client has a valid key
_NO_API_ERROR = "no API is configured for this gateway: set AUDIOTEXT_GATEWAY__API_URL, or use `audiotext up`"


class Gateway:
    """One gateway process: serve `app`, and await `drain` before the end.

    Raises LogUnavailableError when no log is configured.
    """

    def __init__(self, settings: Settings) -> None:
        self._metrics = Metrics()
        self._settings = settings
        self._limiter = ClientLimiter(settings.gateway)
        self._carriers = load_carriers()
        self._producer = LogProducer(settings.kafka, self._metrics, limit_bytes=settings.gateway.buffer_bytes)
        authorizer = StreamAuthorizer(settings, self._limiter)
        self._sockets = MediaSockets(settings, self._carriers, authorizer, self._producer, self._metrics)
        self.connection_guard = ConnectionGuard(settings, self._carriers, self._limiter, self._metrics)
        self.app = web.Application(middlewares=[self.connection_guard.middleware], client_max_size=MAX_BODY_BYTES)
        self._audiosocket = AudioSocketServer(
            settings, self._carriers["audiosocket"], authorizer, self._producer, self._metrics
        )
        self._drained: asyncio.Task[None] | None = None
        self._proxy: Proxy | None = None
        self._readiness = Readiness(self._producer, None)
        self._webhooks = Webhooks(settings, self._carriers, authorizer, self._producer, self._metrics)
        self.app.add_routes(
            [
                web.get("/v1/media/{carrier}", self._sockets.handle),
                web.post("/v1/voice/{carrier}", self._webhooks.voice),
                web.get("/v1/voice/{carrier}", self._webhooks.voice),  # some carriers use GET
                web.post("/v1/status/{carrier}", self._webhooks.status),
                web.get("/v1/status/{carrier}", self._webhooks.status),
                web.post(WEBHOOK_PATH, ProviderCallbacks(settings).soniox),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._render_metrics),
                web.route("*", "/{path:.*}", self._forward),
            ]
        )
        http_server.protect_responses(self.app, settings.base_url)
        self.app.cleanup_ctx.append(self._lifetime)
        self.app.on_shutdown.append(self._on_shutdown)

    async def drain(self) -> None:
        """Ends every stream and waits until the log has all records, or the timeout is over.

        Meanwhile /readyz returns 503 and new sockets are rejected. A second call waits for the first.
        """
        if self._drained is None:
            self._drained = asyncio.ensure_future(self._drain())
        await self._drained

    async def _drain(self) -> None:
        await asyncio.gather(self._sockets.drain(), self._audiosocket.drain())
        self._webhooks.drain()
        if not await self._producer.drain(self._settings.gateway.drain_timeout_s):
            logger.error(
                "the log did not acknowledge all records in time: %d bytes are lost", self._producer.held_bytes
            )

    async def _lifetime(self, _app: web.Application) -> AsyncIterator[None]:
        self._producer.start()
        if self._settings.gateway.api_url:
            self._proxy = Proxy(self._settings.gateway.api_url)
        self._readiness = Readiness(self._producer, self._proxy)
        await self._audiosocket.start()
        watch = asyncio.ensure_future(self._sockets.watch())
        yield
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        if self._proxy is not None:
            await self._proxy.close()
        self._producer.close()

    async def _on_shutdown(self, _app: web.Application) -> None:
        await self.drain()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self._sockets.draining:
            missing: Mapping[str, str] = {"gateway": "shutting down"}
            return web.json_response({"ready": False, "missing": missing, "api_missing": {}}, status=503)
        missing = await self._readiness.missing()
        return web.json_response(
            {"ready": not missing, "missing": dict(missing), "api_missing": dict(self._readiness.api_missing())},
            status=503 if missing else 200,
        )

    async def _render_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if self._proxy is None:
            return http_server.error_response(404, _NO_API_ERROR)
        response = await self._proxy.forward(request)
        if response.status < 400 and request.path.startswith(_AUTHENTICATED_PREFIX):
            self._limiter.record_authenticated(client_address_of(request, self._settings))
        return response


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises SystemExit with a message for an error in the settings."""
    process.raise_descriptor_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except LogUnavailableError as error:
        raise SystemExit(str(error)) from None


def create_runner(gateway: Gateway) -> web.AppRunner:
    """Returns the HTTP runner of the gateway."""
    return web.AppRunner(
        gateway.app, handle_signals=False, shutdown_timeout=0.5, **http_server.OPTIONS, **_HTTP_OPTIONS
    )


def connection_factory(gateway: Gateway, runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    """Returns the protocol factory for new connections. The runner must be set up."""
    return gateway.connection_guard.factory(runner, **_HTTP_OPTIONS)


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    runner = create_runner(gateway)
    await runner.setup()
    host, port = settings.gateway.host, settings.gateway.port
    factory = connection_factory(gateway, runner)
    try:
        server = await asyncio.get_running_loop().create_server(factory, host, port, backlog=1024)
    except OSError as error:
        await runner.cleanup()
        raise SystemExit(http_server.listen_error(host, port, error, "AUDIOTEXT_GATEWAY__PORT")) from None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # The objects created so far are permanent. Without `freeze`, each full collection would scan them and delay calls
    # by 14 ms.
    gc.collect()
    gc.freeze()
    logger.info("the gateway listens on %s:%d; carriers reach it at %s", host, port, settings.base_url)
    await stop.wait()
    logger.info("the gateway is shutting down and ends its streams")
    await gateway.drain()
    server.close()
    await runner.cleanup()
