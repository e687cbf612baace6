"""Process of the API: builds the server, starts it and stops it."""

import asyncio
import json
import logging
import secrets
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from api import openapi, pages
from api.auth.admin_key import require_long_admin_key
from api.auth.authentication import (
    AUTHENTICATOR_CHAIN,
    OWN_HOSTS,
    SHARE_PARAMETER,
    AuthenticatorChain,
    api_key_method,
    described_credentials,
    limited,
    own_hosts,
    session_method,
    share_link_method,
)
from api.auth.key_authenticator import Authenticator, Principal
from api.auth.kratos import Kratos, kratos_method
from api.auth.revocations import Revocations
from api.auth.sign_in_limiter import SIGN_IN_LIMITER, SignInLimiter
from api.compression import gzip_middleware
from api.embedding import QueryEmbedder
from api.endpoint import TENANT_PARAMETER, ApiContext, ApiRequest, Endpoint
from api.errors import ApiError, error_middleware
from api.handlers.calls import list_item
from api.lazy_producer import LazyProducer
from api.live.hub import LiveHub
from api.metrics import ApiMetrics
from api.models import CallListItem
from api.params import NoQuery, parse_query
from api.routes import ENDPOINTS
from api.store_executor import StoreExecutor
from core import http_server, process
from core.http_address import socket_path
from core.settings import Settings
from core.token_signer import TokenSigner
from pipelines.providers import registry
from pipelines.providers.base import Embedder
from pipelines.replay.service import ReplayService
from redpanda.client import LogUnavailableError
from sinks.clickhouse.api_key_queries import ApiKey, ApiKeyStore
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database, StoreUnavailableError
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.token_queries import TokenStore
from sinks.clickhouse.usage_queries import UsageStore
from sinks.object_store import ObjectMissingError, ObjectStore, ObjectStoreError
from sinks.qdrant.store import VectorStore, VectorStoreError

logger = logging.getLogger(__name__)

_SHUTDOWN_S = 1.5  # time that responses in progress get when the service stops
_BULK_S = 110.0  # limit for operations on many calls; the gateway waits for two minutes
_PUBLIC = frozenset((endpoint.method, endpoint.path) for endpoint in ENDPOINTS if endpoint.public)
_PRINCIPAL = web.RequestKey("principal", Principal)


def make_context(settings: Settings, database: Database | None = None) -> ApiContext:
    """Returns everything that the handlers need. Does not connect yet.

    database: ClickHouse, by default the one of the settings.

    Raises SettingsError or StoreUnavailableError, which name the missing setting.
    """
    secret = settings.api.session_secret
    database = database or Database(settings.clickhouse)
    replays, objects = ReplayStore(database), ObjectStore(settings.s3)
    producer = LazyProducer(settings.kafka)
    calls, clickhouse = CallStore(database), StoreExecutor("ClickHouse", StoreUnavailableError)

    async def look_up(names: Sequence[tuple[str, str]]) -> list[CallListItem]:
        return [list_item(call) for call in await clickhouse(calls.get_calls, names)]

    return ApiContext(
        calls=calls,
        usage=UsageStore(database),
        api_keys=ApiKeyStore(database),
        tokens=TokenStore(database),
        clickhouse=clickhouse,
        objects=objects,
        s3=StoreExecutor("S3", ObjectStoreError, passes=(ObjectMissingError,)),
        vectors=VectorStore(settings.qdrant),
        qdrant=StoreExecutor("Qdrant", VectorStoreError),
        embedder=QueryEmbedder(partial(_make_embedder, settings), settings.embedding.timeout_s),
        metrics=ApiMetrics(),
        openapi=json.dumps(openapi.document(ENDPOINTS, settings.base_url)),
        replays=replays,
        publish=producer.send,
        replay_service=ReplayService(producer.send, objects, replays),
        log=StoreExecutor("the log or a store", (LogUnavailableError, StoreUnavailableError, ObjectStoreError)),
        bulk_reads=StoreExecutor("ClickHouse", StoreUnavailableError, threads=2, timeout_s=_BULK_S),
        bulk_writes=StoreExecutor(
            "the log or ClickHouse", (LogUnavailableError, StoreUnavailableError), threads=2, timeout_s=_BULK_S
        ),
        settings=settings,
        live=LiveHub(settings.kafka, look_up),
        token_signer=TokenSigner(secret.get_secret_value() if secret else secrets.token_hex(32)),
    )


def create_app(context: ApiContext) -> web.Application:
    """Returns the server application with the routes of the API and of the web page."""
    settings, token_signer = context.settings, context.token_signer

    async def find_key(key_hash: str) -> ApiKey | None:
        return await context.clickhouse(context.api_keys.find_by_hash, key_hash)

    async def is_revoked(token_id: str) -> bool:
        return await context.clickhouse(context.tokens.is_revoked, token_id)

    admin_key = settings.admin_key.get_secret_value() if settings.admin_key else None

    async def list_keys() -> Sequence[ApiKey]:
        return await context.clickhouse(context.api_keys.list_all)

    authenticator = Authenticator(find_key, admin_key, token_signer, list_keys=list_keys)
    revocations = Revocations(is_revoked)
    methods = [
        api_key_method(authenticator),
        share_link_method(authenticator, token_signer, revocations),
        session_method(authenticator, token_signer, revocations),
    ]
    kratos = Kratos(settings.kratos, settings.kratos.url) if settings.kratos.url else None
    if kratos is not None:
        methods.append(kratos_method(kratos, token_signer))
    chain = AuthenticatorChain(methods)
    page = pages.Pages(settings.kratos.login_url)
    app = web.Application(
        middlewares=[
            _target_middleware,
            context.metrics.middleware(),
            gzip_middleware,
            error_middleware,
            _authentication_middleware(chain, page),
        ]
    )
    for endpoint in ENDPOINTS:
        handler = _handler(endpoint, context, authenticator, revocations)
        if endpoint.method == "GET":
            app.router.add_get(endpoint.path, handler)
        else:
            app.router.add_route(endpoint.method, endpoint.path, handler)
    page.add_routes(app)
    http_server.protect_responses(app, settings.base_url)

    async def close_live_streams(_: web.Application) -> None:
        context.live.close()

    async def close_kratos(_: web.Application) -> None:
        if kratos is not None:
            await kratos.close()

    app[AUTHENTICATOR_CHAIN] = chain
    app[SIGN_IN_LIMITER] = SignInLimiter(settings.api.failed_sign_ins, settings.gateway.trusted_proxies)
    app[OWN_HOSTS] = own_hosts(settings.public_url)
    app.on_shutdown.append(close_live_streams)
    app.on_cleanup.append(close_kratos)
    return app


def run(settings: Settings) -> None:
    """Serves the API until SIGTERM or SIGINT, then ends the process.

    Ends the process at once because a thread may still be loading a model. Raises SettingsError, or SystemExit with
    a message, if the API cannot start.
    """
    require_long_admin_key(settings)
    try:
        context = make_context(settings)
    except StoreUnavailableError as error:
        raise SystemExit(f"the API cannot start: {error}") from None
    process.raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, context))
    process.exit_now()


async def _serve(settings: Settings, context: ApiContext) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(create_app(context), shutdown_timeout=_SHUTDOWN_S, **http_server.OPTIONS)
    await runner.setup()
    host, port = settings.api.host, settings.api.port
    try:
        factory = http_server.protocol_factory(runner)
        try:
            if settings.api.socket is None:
                server = await loop.create_server(factory, host, port, backlog=1024)
            else:
                server = await loop.create_unix_server(factory, socket_path(settings.api.socket), backlog=1024)
        except OSError as error:
            if settings.api.socket is not None:
                raise SystemExit(f"the API cannot listen on {settings.api.socket}: {error.strerror}") from None
            raise SystemExit(http_server.listen_error(host, port, error, "AUDIOTEXT_API__PORT")) from None
        logger.info("the API listens on %s", settings.api.socket or f"http://{host}:{port}")
        context.embedder.warm_up()
        await stop.wait()
        server.close()
    finally:
        await runner.cleanup()


def _make_embedder(settings: Settings) -> Embedder:
    embedder = registry.embedder(settings)
    if isinstance(embedder, registry.LocalModel):
        embedder.load()
    return embedder


@web.middleware
async def _target_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses a target that is not a path. A target with another host must reach no handler."""
    error = http_server.malformed_target(request)
    return ApiError(400, "malformed", error).response() if error else await handler(request)


def _authentication_middleware(chain: AuthenticatorChain, page: pages.Pages) -> Middleware:
    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Authenticates before routing, so that a client without a key learns nothing, not even which paths exist."""
        resource = request.match_info.route.resource
        path = resource.canonical if resource else None
        method = "GET" if request.method == "HEAD" else request.method
        if resource is None and pages.is_browser_navigation(request):
            return page.document(HTTPStatus.NOT_FOUND)
        if (method, path) in _PUBLIC or pages.is_page(path):
            request[_PRINCIPAL] = Principal()
        else:
            request[_PRINCIPAL] = await limited(request, described_credentials(request), chain.principal(request))
        return await handler(request)

    return authenticate


def _handler(
    endpoint: Endpoint[Any], context: ApiContext, authenticator: Authenticator, revocations: Revocations
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        principal = request[_PRINCIPAL]
        _require_allowed(endpoint, request, principal)
        parameters = {name: value for name, value in request.query.items() if name != SHARE_PARAMETER}
        named_tenant = parameters.pop(TENANT_PARAMETER, None) or None if endpoint.for_call else None
        query = parse_query(endpoint.query, parameters) if endpoint.query else NoQuery()
        api_request = ApiRequest(request, context, principal, authenticator, revocations, named_tenant)
        return await endpoint.handler(api_request, query)

    return handle


def _require_allowed(endpoint: Endpoint[Any], request: web.Request, principal: Principal) -> None:
    """Raises ApiError 403 if the principal may not use the endpoint, whichever tenant owns the data."""
    if principal.only_call is not None:
        if not endpoint.shared or request.match_info.get("id", principal.only_call) != principal.only_call:
            raise ApiError(403, "forbidden", "this link shows one call and nothing else")
    elif endpoint.operator and not principal.operator:
        raise ApiError(403, "forbidden", "use a key that sees every tenant, e.g. AUDIOTEXT_ADMIN_KEY")
