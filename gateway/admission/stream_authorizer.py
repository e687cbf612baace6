"""Authorizes streams by the carrier's own credentials or by one of our stream tokens, within the stream limits.

A socket is checked twice: by its upgrade request, and by its stream's start. The start names the call and the account;
it also contains the token if the carrier's upgrade request cannot.
"""

import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import msgspec

from core.settings import ReusableProofSettings, Settings
from core.token_signer import PREFIX, TokenError, TokenSigner
from gateway.carriers.base import Authorization, Carrier, IncomingRequest, StreamStart, UnauthorizedError
from gateway.carriers.common.auth import basic_password, credentials
from gateway.media.session import Admit, SessionClosedError, StreamKey
from gateway.protection.client_limiter import ClientLimiter

TOKEN = "token"
"""Name of the stream token in a query string and among the stream's custom parameters."""

TOO_MANY_UNAUTHENTICATED = "too many sockets wait for their stream token: try again in a few seconds"
"""Error when too many sockets wait for the token in their stream's start."""


_AUDIENCE = "stream"
_MAX_ANNOUNCED = 50_000  # about an hour of a busy gateway
_UNBOUND_TTL_S = 120
"""Validity of a token without a call id; such a stream begins as soon as the carrier has our response."""


@dataclass(frozen=True, slots=True)
class _StreamClaims:
    """Content of a stream token.

    tenant: owner of the call. carrier: carrier whose socket may use it. call_id: the call it is for; "" = the first one
    that uses it. expires_s: seconds since the epoch.
    """

    tenant: str
    carrier: str
    call_id: str
    token_id: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class Admission:
    """Check of a stream's start. authenticated: True if the upgrade request already had valid credentials."""

    admit: Admit
    authenticated: bool = True

    def __call__(self, start: StreamStart) -> tuple[str, StreamStart]:
        """Returns the tenant and the start. Raises SessionClosedError."""
        return self.admit(start)


class StreamAuthorizer:
    """Authorizes every socket and webhook of this process.

    streams: open streams, with the number of sockets of each. gateway: id of this process on the log. limiter: receives
    the addresses that have authenticated.
    """

    def __init__(self, settings: Settings, limiter: ClientLimiter | None = None) -> None:
        self.streams: Counter[StreamKey] = Counter()
        self.gateway = secrets.token_hex(6)
        self._settings = settings
        self.limiter = limiter or ClientLimiter(settings.gateway)
        self._configured = frozenset(settings.carriers_in_use)
        secret = settings.gateway.stream_token_secret
        self._signer = TokenSigner(secret.get_secret_value()) if secret and secret.get_secret_value() else None
        # Calls (tenant, carrier, call id) that have a token, oldest first.
        self._announced: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        # For each used token without a call id: the call that used it, and its expiry (s since the epoch).
        self._used: dict[str, tuple[str, int]] = {}

    def issue(self, tenant: str, carrier: str, call_id: str) -> str:
        """Returns a stream token for this call, or "" without a secret.

        A token without a call id is valid for the first call that uses it.
        """
        if self._signer is None:
            return ""
        ttl_s = self._settings.gateway.stream_token_ttl_s
        if call_id:
            self._announced[tenant, carrier, call_id] = None
            if len(self._announced) > _MAX_ANNOUNCED:
                self._announced.popitem(last=False)
        claims = {"tenant": tenant, "carrier": carrier, "call": call_id}
        return self._signer.sign(_AUDIENCE, claims, ttl_s if call_id else min(ttl_s, _UNBOUND_TTL_S))

    def authorize(self, name: str, carrier: Carrier, request: IncomingRequest) -> Admission:
        """Checks an upgrade request and returns the check of the stream's start. Raises UnauthorizedError."""
        token = _token_in(request)
        if token:
            claims = self._claims(token, name)
            self.limiter.record_authenticated(request.peer)
            return Admission(lambda start: self._admit(name, Authorization(claims.tenant), claims, start))
        try:
            grant = carrier.authorize_socket(request, self._settings)
        except UnauthorizedError as error:
            self._require_configured(name, error)
            if not (carrier.token_at_start and self._signer):
                raise
            return Admission(lambda start: self._admit_by_start_token(name, request.peer, start), authenticated=False)
        self.limiter.record_authenticated(request.peer)
        return Admission(lambda start: self._admit(name, grant, None, start))

    def authorize_webhook(self, name: str, carrier: Carrier, request: IncomingRequest) -> Authorization:
        """Returns the authorization of a voice or status request. Raises UnauthorizedError."""
        try:
            grant = carrier.authorize_webhook(request, self._settings)
        except UnauthorizedError as error:
            self._require_configured(name, error)
            raise
        self.limiter.record_authenticated(request.peer)
        return grant

    def for_tenant(self, tenant: str) -> Admit:
        """Returns the check of the start for streams whose tenant was authorized by other means."""
        return lambda start: (tenant, self._within_limits(tenant, start))

    def _require_configured(self, name: str, refusal: UnauthorizedError) -> None:
        """Raises UnauthorizedError with a reason for the client if nothing authorizes this carrier."""
        if name not in self._configured:
            raise UnauthorizedError(str(refusal), f"{name} is not configured: see docs/carriers") from None

    def _admit_by_start_token(self, name: str, peer: str, start: StreamStart) -> tuple[str, StreamStart]:
        admitted = self._admit(name, None, None, start)
        self.limiter.record_authenticated(peer)
        return admitted

    def _admit(
        self, name: str, grant: Authorization | None, claims: _StreamClaims | None, start: StreamStart
    ) -> tuple[str, StreamStart]:
        """Returns the tenant and the start without its token. claims: of the token in the upgrade request."""
        given = start.custom.get(TOKEN, "")
        if given:
            start = msgspec.structs.replace(start, custom={k: v for k, v in start.custom.items() if k != TOKEN})
        try:
            if given.startswith(PREFIX):
                in_start = self._claims(given, name)
                if grant is not None and in_start.tenant != grant.tenant:
                    raise TokenError("the stream token is for another tenant")
                self._bind(in_start, start.call_id)
                claims = claims or in_start
                grant = grant or Authorization(in_start.tenant)
            if claims is not None:
                self._bind(claims, start.call_id)
            elif grant is not None:
                self._require_token(name, grant.tenant, start.call_id)
        except (TokenError, UnauthorizedError) as error:
            raise SessionClosedError(1008, str(error), "unauthorized") from None
        if grant is None:
            raise SessionClosedError(
                1008, "the stream's start has no stream token: use the answer of our voice webhook", "unauthorized"
            )
        if grant.account and start.account and grant.account != start.account:
            raise SessionClosedError(
                1008, "the stream belongs to another account: sign it with that account's token", "unauthorized"
            )
        return grant.tenant, self._within_limits(grant.tenant, start)

    def _require_token(self, name: str, tenant: str, call_id: str) -> None:
        """Raises TokenError if the carrier's own proof is not enough for this call.

        The proof of some carriers is the same for every stream, so somebody who sees it once could stream any call.
        Therefore streams that our voice webhook starts must present their own token.
        """
        plan = getattr(self._settings, name, None)
        if not isinstance(plan, ReusableProofSettings):
            return
        required = plan.require_stream_token
        if required is None:
            required = self._signer is not None and (plan.answers_calls or (tenant, name, call_id) in self._announced)
        if required:
            raise TokenError(
                f"the stream has no stream token: set AUDIOTEXT_{name.upper()}__REQUIRE_STREAM_TOKEN=false "
                "if your own instructions start it"
            )

    def _claims(self, token: str, name: str) -> _StreamClaims:
        if self._signer is None:
            raise UnauthorizedError("stream tokens are disabled: set AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET")
        try:
            found = self._signer.verify(_AUDIENCE, token)
        except TokenError as error:
            raise UnauthorizedError(f"stream token: {error}") from None
        claims = _StreamClaims(found["tenant"], found["carrier"], found["call"], found["jti"], found["exp"])
        if claims.carrier != name:
            raise UnauthorizedError(f"the stream token is for {claims.carrier}, not {name}")
        return claims

    def _bind(self, claims: _StreamClaims, call_id: str) -> None:
        """Binds a token to one call. Raises TokenError if another call has used it."""
        bound = claims.call_id
        if not bound:
            now_s = time.time()
            self._used = {token_id: used for token_id, used in self._used.items() if used[1] > now_s}
            bound, _ = self._used.setdefault(claims.token_id, (call_id, claims.expires_s))
        if bound != call_id:
            raise TokenError("the stream token is for another call")

    def _within_limits(self, tenant: str, start: StreamStart) -> StreamStart:
        limits = self._settings.gateway
        if (tenant, start.call_id, start.stream_id) in self.streams:
            return start  # another socket of an open stream
        calls = {call_id for owner, call_id, _ in self.streams if owner == tenant}
        if start.call_id not in calls:
            if len(calls) >= limits.max_calls_per_tenant:
                raise SessionClosedError(
                    1013,
                    f"the tenant has {len(calls)} open calls: raise AUDIOTEXT_GATEWAY__MAX_CALLS_PER_TENANT",
                    "tenant-calls",
                )
        else:
            streams = sum(key[:2] == (tenant, start.call_id) for key in self.streams)
            if streams >= limits.max_streams_per_call:
                raise SessionClosedError(
                    1008,
                    f"the call has {streams} open streams: raise AUDIOTEXT_GATEWAY__MAX_STREAMS_PER_CALL",
                    "call-streams",
                )
        return start


def _token_in(request: IncomingRequest) -> str:
    """Returns the stream token in the query string, the bearer token or the Basic password, or ""."""
    candidates: tuple[Callable[[], str], ...] = (
        lambda: dict(parse_qsl(urlsplit(request.target).query)).get(TOKEN, "") if "?" in request.target else "",
        lambda: credentials(request, "bearer"),
        lambda: basic_password(request),
    )
    return next((token for one in candidates if (token := one()).startswith(PREFIX)), "")
