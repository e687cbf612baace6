"""Authentication by an Ory Kratos session instead of an API key: its cookie, or its token in X-Session-Token.

Kratos identifies the session (`/sessions/whoami`). The tenant of the account comes from our settings, or from metadata
that only Kratos' admin API can write.
https://www.ory.com/docs/kratos/reference/api#tag/frontend/operation/toSession
"""

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

import httpx
from aiohttp import web
from pydantic import BaseModel, ValidationError

from api.auth.authentication import AuthMethod, require_same_site
from api.auth.key_authenticator import Principal
from api.auth.scope import Scope
from api.errors import ApiError
from core.health_check import Check
from core.settings import KratosSettings
from core.token_signer import TokenSigner

logger = logging.getLogger(__name__)

TOKEN_HEADER = "X-Session-Token"
_TIMEOUT_S = 3.0  # includes the wait for a free slot
_CONCURRENT_REQUESTS = 32  # to Kratos: bounds how long invalid cookies delay other clients
_CACHE_ENTRIES = 4096
_LONGEST = 4096
# Bytes that a cookie value may hold (RFC 6265, 4.1.1): none that could end it and begin another cookie or header.
_COOKIE_BYTES = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")


class _Identity(BaseModel):
    id: str
    state: str | None = None
    traits: Any = None
    metadata_public: Any = None


class KratosSession(BaseModel):
    """Session as Kratos describes it, reduced to the fields used here."""

    id: str
    active: bool = False
    expires_at: datetime | None = None
    identity: _Identity | None = None


@dataclass(frozen=True, slots=True)
class _CachedSession:
    """Response of Kratos, valid until `until_s` (monotonic seconds)."""

    until_s: float
    session_id: str
    principal: Principal


class Kratos:
    """Client of Kratos that caches sessions for some seconds."""

    def __init__(self, settings: KratosSettings, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """url: address of Kratos' public API. Does not connect yet."""
        self.cookie = settings.cookie
        self._settings = settings
        self._clock = clock
        self._slots = asyncio.Semaphore(_CONCURRENT_REQUESTS)
        # By hash of the credentials, oldest first. Only valid sessions, so that a sign-in takes effect at once.
        self._cache: OrderedDict[str, _CachedSession] = OrderedDict()
        # Ignores proxies of the environment: session cookies must go to Kratos only.
        self._http = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False)
        if settings.tenant_field.startswith("traits."):
            logger.warning(
                "AUDIOTEXT_KRATOS__TENANT_FIELD=%s is unsafe: users can change their own traits unless your Kratos "
                "forbids it, and could then see another tenant's calls; use a field of metadata_public",
                settings.tenant_field,
            )

    async def by_token(self, token: str) -> Principal:
        """Returns the principal of a session token. Raises ApiError 401, 403 or 503."""
        return (await self._session("token", token, {TOKEN_HEADER: token})).principal

    async def by_cookie(self, value: str) -> tuple[Principal, str]:
        """Returns the principal of a cookie and the session's id. Raises like `by_token`."""
        session = await self._session("cookie", value, {"Cookie": f"{self.cookie}={value}"})
        return session.principal, session.session_id

    async def check(self) -> Check:
        """Reports readiness of Kratos for `audiotext doctor`."""
        fix = "check that AUDIOTEXT_KRATOS__URL is the address of Kratos' public API and that Kratos runs"
        try:
            answer = await self._http.get("/health/ready")
        except httpx.HTTPError as error:
            return Check("Ory Kratos", False, f"no answer: {error!r}", fix)
        if answer.status_code != HTTPStatus.OK:
            return Check("Ory Kratos", False, f"it answers {answer.status_code} to /health/ready", fix)
        return Check("Ory Kratos", True, f"ready; tenants by {self._settings.tenant_field}")

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _session(self, kind: str, credential: str, headers: Mapping[str, str]) -> _CachedSession:
        if len(credential) > _LONGEST or not _COOKIE_BYTES.fullmatch(credential):
            raise _not_signed_in()
        digest = hashlib.sha256(f"{kind}\n{credential}".encode()).hexdigest()
        cached = self._cache.get(digest)
        if cached is not None and self._clock() < cached.until_s:
            return cached
        requested_s = self._clock()  # the response may be as old as the start of the request
        self._cache.pop(digest, None)
        session = await self._fetch(headers)
        principal = principal_of(session, self._settings)
        left_s = self._settings.cache_s
        if principal.expires_at_ms is not None:
            left_s = min(left_s, principal.expires_at_ms / 1000 - time.time())
        cached = _CachedSession(requested_s + left_s, session.id, principal)
        self._cache[digest] = cached
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return cached

    async def _fetch(self, headers: Mapping[str, str]) -> KratosSession:
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._slots:
                answer = await self._http.get("/sessions/whoami", headers={"Accept": "application/json", **headers})
        except (httpx.HTTPError, TimeoutError) as error:
            logger.warning("Kratos does not answer: %r", error)
            raise _away() from error
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise _not_signed_in()
        if answer.status_code == HTTPStatus.FORBIDDEN:  # session_aal2_required
            raise ApiError(403, "forbidden", "sign in with your second factor as well")
        if answer.status_code != HTTPStatus.OK:
            logger.warning("Kratos answers %d to /sessions/whoami", answer.status_code)
            raise _away()
        try:
            return KratosSession.model_validate_json(answer.content)
        except ValidationError as error:
            logger.warning("the server at AUDIOTEXT_KRATOS__URL does not answer like Kratos: %s", error)
            raise _away() from error


def principal_of(session: KratosSession, settings: KratosSettings) -> Principal:
    """Returns the principal of a session. Raises ApiError 401 or 403. Pure except for the clock."""
    identity = session.identity
    expired = session.expires_at is not None and session.expires_at.timestamp() <= time.time()
    if not session.active or expired or identity is None:
        raise _not_signed_in()
    if identity.state not in (None, "active"):
        raise ApiError(403, "forbidden", "this account is not active")
    expires_at_ms = int(session.expires_at.timestamp() * 1000) if session.expires_at else None
    if identity.id in settings.admins:
        return Principal(Scope.ALL, via="kratos", expires_at_ms=expires_at_ms)
    tenant = settings.tenants.get(identity.id) or _field(identity, settings.tenant_field)
    if not tenant:
        # An operator has to put this id into the settings.
        raise ApiError(
            403, "forbidden", f"the account {identity.id} is not assigned to a tenant: contact your administrator"
        )
    return Principal(Scope.of(tenant), via="kratos", expires_at_ms=expires_at_ms)


def kratos_method(kratos: Kratos, token_signer: TokenSigner) -> AuthMethod:
    """Returns the method that reads a Kratos session from its token header or its cookie."""

    async def method(request: web.Request) -> Principal | None:
        token = request.headers.get(TOKEN_HEADER)
        if token is not None:  # a browser never sends this header by itself
            return await kratos.by_token(token)
        cookie = request.cookies.get(kratos.cookie)
        if not cookie:
            return None
        principal, session_id = await kratos.by_cookie(cookie)
        # Derived from the session's id, because Kratos may renew the cookie at any time.
        csrf_token = token_signer.digest("csrf", f"kratos {session_id}")
        require_same_site(request, csrf_token)
        return replace(principal, csrf_token=csrf_token)

    return method


def _field(identity: _Identity, path: str) -> str:
    """Returns the text at a path like "metadata_public.tenant", "" if it is missing."""
    value: Any = {"traits": identity.traits, "metadata_public": identity.metadata_public}
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _not_signed_in() -> ApiError:
    return ApiError(
        401,
        "unauthorized",
        "this session is unknown or has expired: sign in again, or send an API key",
        headers={"WWW-Authenticate": 'Bearer realm="audiotext"'},
    )


def _away() -> ApiError:
    return ApiError(
        503,
        "unavailable",
        "the session cannot be checked because Ory Kratos cannot be reached: try again, or send an API key",
        headers={"Retry-After": "2"},
    )
