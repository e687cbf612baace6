"""The API's process: the server, its start and its end."""

import asyncio
import errno
import json
import logging
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from audiotext.settings import Settings, SettingsError
from gateway.api import openapi
from gateway.api.auth import Authenticator, Principal
from gateway.api.backends import Backend
from gateway.api.embedding import QueryEmbedder
from gateway.api.endpoint import Asked, Endpoint, Services
from gateway.api.errors import error_middleware
from gateway.api.metrics import ApiMetrics
from gateway.api.params import NoQuery, parse_query
from gateway.api.routes import ENDPOINTS
from pipelines.providers import Embedder, registry
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.queries import ApiKey, CallStore
from sinks.objects import ObjectMissingError, ObjectStore, ObjectStoreError
from sinks.vectors import VectorStore, VectorStoreError

log = logging.getLogger(__name__)

_SHUTDOWN_S = 1.5  # what answers under way may still take when the service is told to end
_PUBLIC = frozenset(endpoint.path for endpoint in ENDPOINTS if endpoint.public)
_PRINCIPAL = web.RequestKey("principal", Principal)


def make_services(settings: Settings) -> Services:
    """Everything the handlers need. Connects to nothing yet. Raises SettingsError or StoreUnavailableError naming
    a setting that is missing."""
    return Services(
        calls=CallStore(settings.clickhouse),
        clickhouse=Backend("ClickHouse", StoreUnavailableError),
        objects=ObjectStore(settings.s3),
        s3=Backend("S3", ObjectStoreError, passes=(ObjectMissingError,)),
        vectors=VectorStore(settings.qdrant),
        qdrant=Backend("Qdrant", VectorStoreError),
        embedder=QueryEmbedder(partial(_make_embedder, settings), settings.embedding.timeout_s),
        metrics=ApiMetrics(),
        openapi=json.dumps(openapi.document(ENDPOINTS, settings.base_url)),
    )


def create_app(services: Services, admin_key: str | None) -> web.Application:
    """The server's routes. admin_key: opens every tenant's calls; None = no such key."""

    async def find_key(key_hash: str) -> ApiKey | None:
        return await services.clickhouse(services.calls.find_by_hash, key_hash)

    app = web.Application(
        middlewares=[
            services.metrics.middleware(),
            error_middleware,
            _key_middleware(Authenticator(find_key, admin_key)),
        ]
    )
    for endpoint in ENDPOINTS:
        app.router.add_get(endpoint.path, _handler(endpoint, services))
    return app


def run(settings: Settings) -> None:
    """Serves the API until SIGTERM or SIGINT. Raises SystemExit with a sentence if it cannot begin."""
    try:
        services = make_services(settings)
    except (SettingsError, StoreUnavailableError) as error:
        raise SystemExit(f"the API cannot start: {error}") from None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, services))


async def _serve(settings: Settings, services: Services) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    admin_key = settings.admin_key.get_secret_value() if settings.admin_key else None
    server = web.AppRunner(create_app(services, admin_key), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await server.setup()
    host, port = settings.api.host, settings.api.port
    try:
        try:
            await web.TCPSite(server, host, port).start()
        except OSError as error:
            raise SystemExit(_cannot_listen(error, host, port)) from None
        log.info("the API listens on http://%s:%d", host, port)
        services.embedder.warm_up()
        await stop.wait()
    finally:
        await server.cleanup()


def _make_embedder(settings: Settings) -> Embedder:
    embedder = registry.embedder(settings)
    if isinstance(embedder, registry.LocalModel):
        embedder.load()
    return embedder


def _cannot_listen(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: end what uses it or set AUDIOTEXT_API__PORT"
    return f"the API cannot listen on {host}:{port}: {error.strerror or error}"


def _key_middleware(authenticator: Authenticator) -> Middleware:
    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Before anything else, so that who has no key learns nothing, not even which paths there are."""
        if request.path not in _PUBLIC:
            request[_PRINCIPAL] = await authenticator.authenticate(request.headers.get("Authorization"))
        return await handler(request)

    return authenticate


def _handler(endpoint: Endpoint[Any], services: Services) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        query = parse_query(endpoint.query, request.query) if endpoint.query else NoQuery()
        tenant = None if endpoint.public else request[_PRINCIPAL].tenant
        return await endpoint.handler(Asked(request, services, tenant), query)

    return handle
