"""The gateway: carriers' sockets and webhooks, health, metrics; everything else is passed on to the API.

It holds no state that outlives a call, so any number of them may run behind a load balancer.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import uvloop
from aiohttp import web

from core.settings import Settings
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers import load_carriers
from gateway.media.audiosocket_server import AudioSocketServer
from gateway.media.websocket_server import MediaSockets
from gateway.metrics import Metrics
from gateway.producer.log_producer import LogProducer
from gateway.protection.client_limiter import ClientLimiter
from gateway.protection.connection_guard import ConnectionGuard, client_of
from gateway.protection.http_handler import HttpHandler
from gateway.protection.log_rate_limit import bounded
from gateway.protection.request_prefilter import RequestPrefilter
from gateway.provider_callbacks import ProviderCallbacks
from gateway.proxy import Proxy
from gateway.readiness import Readiness
from gateway.webhooks import MAX_BODY_BYTES, Webhooks
from redpanda.client import LogUnavailableError
from schemas.provider_callbacks import WEBHOOK_PATH

log = logging.getLogger(__name__)

# Where what outsiders do is logged.
_KNOCKED_AT = (
    "gateway.protection.request_prefilter",
    "gateway.media.websocket_server",
    "gateway.webhooks",
    "gateway.media.session",
    "gateway.media.audiosocket_server",
    "aiohttp.server",
)

_HTTP: dict[str, Any] = {
    "access_log": None,
    "lingering_time": 1,
    # The proxy passes on what came: a body that is shorter than announced would take its rest from the next request
    # over the same connection to the API, which is somebody else's.
    "auto_decompress": False,
}

_NEEDS_A_KEY = "/v1/"  # what the API answers nobody without one
_NO_API = "there is no API behind this gateway: set AUDIOTEXT_GATEWAY__API_URL, or use `audiotext up`"


class Gateway:
    """One gateway: `app` is what to serve, `drain` what to await before ceasing to.

    Raises LogUnavailableError when no log is configured.
    """

    def __init__(self, settings: Settings) -> None:
        self._metrics = Metrics()
        self._settings = settings
        self._strangers = ClientLimiter(settings.gateway)
        self._carriers = load_carriers()
        self._writer = LogProducer(settings.kafka, self._metrics, limit_bytes=settings.gateway.buffer_bytes)
        admissions = StreamAuthorizer(settings, self._strangers)
        self._sockets = MediaSockets(settings, self._carriers, admissions, self._writer, self._metrics)
        first_look = RequestPrefilter(
            self._carriers, admissions, self._strangers, self._metrics, self._sockets.unauthenticated_limit_reached
        )
        self.door = ConnectionGuard(settings, self._strangers, self._metrics, first_look)
        # What is passed on to the API is not read here, so this is the webhooks' limit.
        self.app = web.Application(middlewares=[self.door.middleware], client_max_size=MAX_BODY_BYTES)
        self._audiosocket = AudioSocketServer(
            settings, self._carriers["audiosocket"], admissions, self._writer, self._metrics
        )
        self._drained: asyncio.Task[None] | None = None
        self._proxy: Proxy | None = None
        self._readiness = Readiness(self._writer, None)
        self._webhooks = Webhooks(settings, self._carriers, admissions, self._writer, self._metrics)
        self.app.add_routes(
            [
                web.get("/v1/media/{carrier}", self._sockets.handle),
                web.post("/v1/voice/{carrier}", self._webhooks.voice),
                web.get("/v1/voice/{carrier}", self._webhooks.voice),  # some carriers ask that way
                web.post("/v1/status/{carrier}", self._webhooks.status),
                web.get("/v1/status/{carrier}", self._webhooks.status),
                web.post(WEBHOOK_PATH, ProviderCallbacks(settings).soniox),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._render_metrics),
                web.route("*", "/{path:.*}", self._otherwise),
            ]
        )
        self.app.cleanup_ctx.append(self._lifetime)
        self.app.on_shutdown.append(self._on_shutdown)

    async def drain(self) -> None:
        """Ends every stream and waits until the log has everything, or the time for that is over.

        While it runs /readyz answers 503 and new sockets are refused. Calling it again waits for the first.
        """
        if self._drained is None:
            self._drained = asyncio.ensure_future(self._drain())
        await self._drained

    async def _drain(self) -> None:
        await asyncio.gather(self._sockets.drain(), self._audiosocket.drain())
        self._webhooks.drain()
        if not await self._writer.drain(self._settings.gateway.drain_timeout_s):
            log.error("the log did not take everything in time: %d bytes are lost", self._writer.held_bytes)

    async def _lifetime(self, _app: web.Application) -> AsyncIterator[None]:
        self._writer.start()
        if self._settings.gateway.api_url:
            self._proxy = Proxy(self._settings.gateway.api_url)
        self._readiness = Readiness(self._writer, self._proxy)
        await self._audiosocket.start()
        watch = asyncio.ensure_future(self._sockets.watch())
        yield
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        if self._proxy is not None:
            await self._proxy.close()
        self._writer.close()

    async def _on_shutdown(self, _app: web.Application) -> None:
        await self.drain()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self._sockets.draining:
            return web.json_response({"ready": False, "missing": {"gateway": "shutting down"}}, status=503)
        missing = await self._readiness.missing()
        return web.json_response({"ready": not missing, "missing": dict(missing)}, status=503 if missing else 200)

    async def _render_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _otherwise(self, request: web.Request) -> web.StreamResponse:
        if self._proxy is None:
            return web.json_response({"error": _NO_API}, status=404)
        answer = await self._proxy.pass_on(request)
        if answer.status < 400 and request.path.startswith(_NEEDS_A_KEY):
            self._strangers.authenticated(client_of(request, self._settings))
        return answer


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises SystemExit with a sentence for a mistake in the settings."""
    allow_descriptors()
    try:
        with bounded(_KNOCKED_AT), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except LogUnavailableError as error:
        raise SystemExit(str(error)) from None


def allow_descriptors() -> None:
    """Raises this process's limit of open files as far as it may go: a call is one, and the usual 1024 are few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def runner_of(gateway: Gateway) -> web.AppRunner:
    """What speaks HTTP for it."""
    return web.AppRunner(gateway.app, handle_signals=False, shutdown_timeout=0.5, **_HTTP)


def connections_of(gateway: Gateway, runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    """What takes each new connection: the door, and behind it HTTP. The runner must be set up."""
    assert runner.server is not None
    return gateway.door.factory(partial(HttpHandler, runner.server, loop=asyncio.get_running_loop(), **_HTTP))


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    runner = runner_of(gateway)
    await runner.setup()
    host, port = settings.gateway.host, settings.gateway.port
    connected = connections_of(gateway, runner)
    try:
        server = await asyncio.get_running_loop().create_server(connected, host, port, backlog=1024)
    except OSError as error:
        await runner.cleanup()
        raise SystemExit(_cannot_listen(host, port, error)) from None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # What is there now stays: looking through it again and again would keep calls waiting, 14 ms at a time.
    gc.collect()
    gc.freeze()
    log.info("gateway listens on %s:%d, known to carriers as %s", host, port, settings.base_url)
    await stop.wait()
    log.info("gateway ends its streams")
    await gateway.drain()
    server.close()
    await runner.cleanup()


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
    return f"port {port} on {host} {why}: choose another with AUDIOTEXT_GATEWAY__PORT"
