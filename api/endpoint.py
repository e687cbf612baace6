"""What an endpoint is: a path, a handler, and what is said of both in the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from api.auth.key_authenticator import Authenticator, Principal
from api.auth.signed_tokens import TokenSigner
from api.embedding import QueryEmbedder
from api.errors import ApiError, bad_parameter, call_not_found, not_ready
from api.live.hub import LiveHub
from api.metrics import ApiMetrics
from api.params import Query
from api.store_executor import StoreExecutor
from core.settings import Settings
from pipelines.replay.service import ReplayService, Tell
from sinks.clickhouse.call_projection import CallDoc, PartDoc
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore

B = TypeVar("B", bound=BaseModel)
Q_contra = TypeVar("Q_contra", bound=Query, contravariant=True)


@dataclass(frozen=True, slots=True)
class ApiContext:
    """What handlers work with: each store's client and what runs it; openapi: the API's description, as JSON; desk:
    where replays are asked for; tell: puts events on the log; log: runs what needs the log; choosing: looks at many
    calls; switching: changes many calls; seal: signs what proves later who asked."""

    calls: CallStore
    clickhouse: StoreExecutor
    objects: ObjectStore
    s3: StoreExecutor
    vectors: VectorStore
    qdrant: StoreExecutor
    embedder: QueryEmbedder
    metrics: ApiMetrics
    openapi: str
    replays: ReplayStore
    desk: ReplayService
    tell: Tell
    log: StoreExecutor
    choosing: StoreExecutor
    switching: StoreExecutor
    settings: Settings
    live: LiveHub
    seal: TokenSigner


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that may be answered, and who asks."""

    request: web.Request
    services: ApiContext
    principal: Principal
    authenticator: Authenticator

    @property
    def tenant(self) -> str | None:
        """Whose calls the asker sees; None = everybody's."""
        return self.principal.tenant

    @property
    def call_id(self) -> str:
        """The call id in the path, decoded."""
        return self.request.match_info["id"]

    async def body(self, model: type[B]) -> B:
        """The request's body, as JSON of that form; types are not converted. Raises ApiError 400 that names the first
        bad field."""
        try:
            return model.model_validate_json(await self.request.read() or b"{}", strict=True)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            raise bad_parameter(name or "body", message) from None

    async def call(self) -> CallDoc:
        """The call in the path. Raises ApiError 404 if there is none that the asker may see."""
        services = self.services
        found = await services.clickhouse(services.calls.get_call, self.call_id, self.tenant)
        if found is None:
            raise call_not_found(self.call_id)
        return found

    async def part(self, number: int) -> PartDoc:
        """A part of the call in the path. Raises ApiError 404 if there is no such part."""
        return (await self.parts(number))[0]

    async def parts(self, number: int | None) -> list[PartDoc]:
        """One part of the call in the path, or all, at least one. Raises ApiError 404 if there is none (yet)."""
        call = await self.call()
        wanted = [part for part in call.parts if number in (None, part.part)]
        if not wanted and number in (None, 1):  # a first part always comes; another may never
            raise not_ready("the call has not been recorded yet")
        if not wanted:
            raise ApiError(404, "not_found", f"the call has no part {number}", parameter="part")
        return wanted


def not_there(what: str, part: PartDoc) -> ApiError:
    """Something a part does not have: not yet, or, so that nobody waits for it, never."""
    if part.status == "failed":
        return ApiError(404, "failed", f"there is no {what}: {part.failed_stage} failed: {part.failed_reason}")
    return not_ready(f"there is no {what} yet: the call is {part.status}")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Q_contra]):
    """One path and method.

    name: its operation id. query: its parameters; None = they are not looked at. body: of its JSON answer; None = it
    has no JSON answer. media: content types of other answers. ranges: parts of it can be asked for.
    public: needs no key. own_statuses: bodies of answers that are neither `status` nor an error of the common shape.
    request: what has to be sent, as JSON. status: of the usual answer. subject: what the path's id names.
    shared: who has a link to a call may read this of it. operator: only for keys that see every tenant.
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
