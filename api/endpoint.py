"""Definition of an endpoint: path, handler, and its description in the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from api.auth.key_authenticator import Authenticator, Principal
from api.auth.revocations import Revocations
from api.embedding import QueryEmbedder
from api.errors import ApiError, bad_parameter, call_not_found, not_ready
from api.live.hub import LiveHub
from api.metrics import ApiMetrics
from api.params import Query
from api.store_executor import StoreExecutor
from core.http_server import read_body
from core.settings import Settings
from core.token_signer import TokenSigner
from pipelines.replay.service import Publish, ReplayService
from sinks.clickhouse.api_key_queries import ApiKeyStore
from sinks.clickhouse.call_projection import CallDoc, PartDoc
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.token_queries import TokenStore
from sinks.clickhouse.usage_queries import UsageStore
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore

_BODY_TIMEOUT_S = 20.0  # longer than in the gateway, which reads a body before it forwards it

# A carrier's call id may contain braces, which aiohttp's default pattern for a path segment excludes.
CALL = "/v1/calls/{id:[^/]+}"
"""Path of a call."""

TENANT_PARAMETER = "tenant"
"""Parameter of every endpoint for one call: names the owner of the call."""

B = TypeVar("B", bound=BaseModel)
Q_contra = TypeVar("Q_contra", bound=Query, contravariant=True)


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Dependencies of the handlers: each store's client and the executor that runs it.

    openapi: the OpenAPI document as JSON.
    replay_service: starts, stops and resumes replays.
    publish: puts events on the log.
    log: executor of operations that need the log.
    bulk_reads, bulk_writes: executors of operations that read or change many calls.
    token_signer: signs sessions and links.
    """

    calls: CallStore
    usage: UsageStore
    api_keys: ApiKeyStore
    tokens: TokenStore
    clickhouse: StoreExecutor
    objects: ObjectStore
    s3: StoreExecutor
    vectors: VectorStore
    qdrant: StoreExecutor
    embedder: QueryEmbedder
    metrics: ApiMetrics
    openapi: str
    replays: ReplayStore
    replay_service: ReplayService
    publish: Publish
    log: StoreExecutor
    bulk_reads: StoreExecutor
    bulk_writes: StoreExecutor
    settings: Settings
    live: LiveHub
    token_signer: TokenSigner


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """Authorized request, with the client's principal.

    named_tenant: the parameter `tenant` of an endpoint for one call.
    """

    request: web.Request
    context: ApiContext
    principal: Principal
    authenticator: Authenticator
    revocations: Revocations
    named_tenant: str | None = None

    @property
    def tenant(self) -> str | None:
        """Tenant whose calls the client sees; None = every tenant's."""
        return self.principal.tenant

    @property
    def sees_all_tenants(self) -> bool:
        """True if addresses of calls need their tenant to be unambiguous for this client."""
        return self.tenant is None

    def tenant_within(self, named: str | None) -> str | None:
        """Returns the tenant that a request is about: the client's, or the named one.

        None = every tenant. Raises ApiError 400 if the client does not see the named tenant's calls.
        """
        if self.tenant is not None and named not in (None, self.tenant):
            raise bad_parameter("tenant", "is not the tenant of this key: leave it out")
        return self.tenant or named

    @property
    def call_id(self) -> str:
        """Id in the path, decoded."""
        return self.request.match_info["id"]

    async def body(self, model: type[B]) -> B:
        """Returns the request's JSON body as this model, without type conversion.

        Raises ApiError 400 that names the first invalid field, 408 or 413.
        """
        content = await read_body(self.request, _BODY_TIMEOUT_S)
        try:
            return model.model_validate_json(content or b"{}", strict=True)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            raise bad_parameter(name or "body", message) from None

    async def call(self) -> CallDoc:
        """Returns the call in the path, of the tenant in the parameter `tenant` if it is set.

        Raises ApiError 404 if the client sees no such call, and AmbiguousCallError, which becomes a response with
        status 409, if it sees several.
        """
        context, tenant = self.context, self.tenant_within(self.named_tenant)
        found = await context.clickhouse(context.calls.get_call, self.call_id, tenant)
        if found is None:
            raise call_not_found(self.call_id)
        return found

    async def part(self, number: int) -> PartDoc:
        """Returns a part of the call in the path. Raises ApiError 404 if the part does not exist."""
        return (await self.parts(number))[0]

    async def parts(self, number: int | None) -> list[PartDoc]:
        """Returns one part of the call in the path, or all parts (at least one).

        Raises ApiError 404 if the part does not exist (yet).
        """
        call = await self.call()
        parts = [part for part in call.parts if number in (None, part.part)]
        if not parts and number in (None, 1):  # every call gets a first part, but not always another one
            raise not_ready("the call has not been recorded yet")
        if not parts:
            raise ApiError(404, "not_found", f"the call has no part {number}", parameter="part")
        return parts


def missing_artefact(kind: str, part: PartDoc) -> ApiError:
    """Returns the error for an artefact that a part does not have.

    After a failure the error says so, so that the client does not wait for the artefact.
    """
    if part.status == "failed":
        return ApiError(404, "failed", f"there is no {kind}: {part.failed_stage} failed: {part.failed_reason}")
    return not_ready(f"there is no {kind} yet: the call is {part.status}")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Q_contra]):
    """One path and method.

    name: the operation id.
    query: model of the query parameters; None = they are ignored.
    body: model of the JSON response; None = the response is not JSON.
    media: content types of other responses.
    ranges: True if the endpoint supports range requests.
    public: True if the endpoint needs no key.
    own_statuses: models of responses that are neither `status` nor an error of the common shape.
    request: model of the JSON request body.
    status: status of the usual response.
    subject: description of the id in the path.
    shared: True if a link to a call gives access.
    operator: True if only keys that see every tenant have access.
    """

    path: str
    handler: Callable[[ApiRequest, Q_contra], Awaitable[web.StreamResponse]]
    name: str
    summary: str
    query: type[Q_contra] | None = None
    body: type[BaseModel] | None = None
    media: tuple[str, ...] = ()
    ranges: bool = False
    public: bool = False
    own_statuses: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    method: Literal["GET", "POST", "DELETE"] = "GET"
    request: type[BaseModel] | None = None
    status: int = 200
    subject: str = "The carrier's call id, percent-encoded."
    shared: bool = False
    operator: bool = False

    @property
    def for_call(self) -> bool:
        """True if the path names a call, so that the parameter `tenant` may name its owner."""
        return self.path.startswith(CALL)
