"""People's sessions at Ory Kratos: its cookie, or its token in X-Session-Token, instead of an API key.

Kratos is asked who it is (`/sessions/whoami`); which tenant that person belongs to is ours to say, or is written in
what only Kratos' admin API can write. https://www.ory.com/docs/kratos/reference/api#tag/frontend/operation/toSession
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

from api.auth.authentication import Way, require_same_site
from api.auth.key_authenticator import Principal
from api.auth.signed_tokens import TokenSigner
from api.errors import ApiError
from core.health_check import Check
from core.settings import KratosSettings

log = logging.getLogger(__name__)

TOKEN_HEADER = "X-Session-Token"
_TIMEOUT_S = 3.0  # waiting for a turn included
_AT_ONCE = 32  # questions to Kratos: whoever sends made-up cookies keeps no others waiting for long
_CACHE_ENTRIES = 4096
_LONGEST = 4096
# What a cookie may consist of (RFC 6265, 4.1.1): nothing that could end it and begin another, or another header.
_OCTETS = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")


class _Identity(BaseModel):
    id: str
    state: str | None = None
    traits: Any = None
    metadata_public: Any = None


class KratosSession(BaseModel):
    """What Kratos says of a session, as far as it matters here."""

    id: str
    active: bool = False
    expires_at: datetime | None = None
    identity: _Identity | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer of Kratos, good until then (monotonic seconds)."""

    until_s: float
    session_id: str
    principal: Principal


class Kratos:
    """Asks Kratos, and remembers its answers for some seconds."""

    def __init__(self, settings: KratosSettings, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """url: of Kratos' public API. Connects to nothing yet."""
        self.cookie = settings.cookie
        self._settings = settings
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # By hash of what proves it, oldest first. Only good ones: who signs in is in at once.
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        # No proxies of the environment: session cookies go nowhere else.
        self._http = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False)
        if settings.tenant_field.startswith("traits."):
            log.warning(
                "AUDIOTEXT_KRATOS__TENANT_FIELD=%s: people can change their own traits unless your Kratos forbids it, "
                "and with this one whose calls they see; metadata_public is safe",
                settings.tenant_field,
            )

    async def by_token(self, token: str) -> Principal:
        """Whose session token it is. Raises ApiError 401, 403 or 503."""
        return (await self._known("token", token, {TOKEN_HEADER: token})).principal

    async def by_cookie(self, value: str) -> tuple[Principal, str]:
        """Whose cookie it is, and the session's id. Raises alike."""
        known = await self._known("cookie", value, {"Cookie": f"{self.cookie}={value}"})
        return known.principal, known.session_id

    async def check(self) -> Check:
        """Whether Kratos is ready, for `audiotext doctor`."""
        cure = "see whether AUDIOTEXT_KRATOS__URL is the address of Kratos' public API, and whether it runs"
        try:
            answer = await self._http.get("/health/ready")
        except httpx.HTTPError as error:
            return Check("Ory Kratos", False, f"no answer: {error!r}", cure)
        if answer.status_code != HTTPStatus.OK:
            return Check("Ory Kratos", False, f"it answers {answer.status_code} to /health/ready", cure)
        return Check("Ory Kratos", True, f"ready; tenants by {self._settings.tenant_field}")

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def _known(self, kind: str, proof: str, headers: Mapping[str, str]) -> _Known:
        if len(proof) > _LONGEST or not _OCTETS.fullmatch(proof):
            raise _not_signed_in()
        digest = hashlib.sha256(f"{kind}\n{proof}".encode()).hexdigest()
        known = self._cache.get(digest)
        if known is not None and self._clock() < known.until_s:
            return known
        asked_s = self._clock()  # the answer is as old as the question
        self._cache.pop(digest, None)
        session = await self._ask(headers)
        principal = principal_of(session, self._settings)
        left_s = self._settings.cache_s
        if principal.expires_at_ms is not None:
            left_s = min(left_s, principal.expires_at_ms / 1000 - time.time())
        known = _Known(asked_s + left_s, session.id, principal)
        self._cache[digest] = known
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return known

    async def _ask(self, headers: Mapping[str, str]) -> KratosSession:
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._turns:
                answer = await self._http.get("/sessions/whoami", headers={"Accept": "application/json", **headers})
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("Kratos does not answer: %r", error)
            raise _away() from error
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise _not_signed_in()
        if answer.status_code == HTTPStatus.FORBIDDEN:  # session_aal2_required
            raise ApiError(403, "forbidden", "sign in with your second factor, too")
        if answer.status_code != HTTPStatus.OK:
            log.warning("Kratos answers %d to /sessions/whoami", answer.status_code)
            raise _away()
        try:
            return KratosSession.model_validate_json(answer.content)
        except ValidationError as error:
            log.warning("what answers at AUDIOTEXT_KRATOS__URL is no Kratos: %s", error)
            raise _away() from error


def principal_of(session: KratosSession, settings: KratosSettings) -> Principal:
    """Who a session's person is here. Raises ApiError 401 or 403. Pure but for the clock."""
    identity = session.identity
    expired = session.expires_at is not None and session.expires_at.timestamp() <= time.time()
    if not session.active or expired or identity is None:
        raise _not_signed_in()
    if identity.state not in (None, "active"):
        raise ApiError(403, "forbidden", "this account is not active")
    expires_at_ms = int(session.expires_at.timestamp() * 1000) if session.expires_at else None
    if identity.id in settings.admins:
        return Principal(tenant=None, via="kratos", expires_at_ms=expires_at_ms)
    tenant = settings.tenants.get(identity.id) or _field(identity, settings.tenant_field)
    if not tenant:
        # The id is what an operator needs to put into the settings.
        raise ApiError(403, "forbidden", f"the account {identity.id} belongs to no tenant here; ask who runs this")
    return Principal(tenant=tenant, via="kratos", expires_at_ms=expires_at_ms)


def by_kratos(kratos: Kratos, seal: TokenSigner) -> Way:
    """A Kratos session: its token in a header, or its cookie."""

    async def way(request: web.Request) -> Principal | None:
        token = request.headers.get(TOKEN_HEADER)
        if token is not None:  # no browser sends that by itself
            return await kratos.by_token(token)
        cookie = request.cookies.get(kratos.cookie)
        if not cookie:
            return None
        principal, session_id = await kratos.by_cookie(cookie)
        # Kratos may renew the cookie at any time, the session stays.
        csrf_token = seal.digest("csrf", f"kratos {session_id}")
        require_same_site(request, csrf_token)
        return replace(principal, csrf_token=csrf_token)

    return way


def _field(identity: _Identity, path: str) -> str:
    """The text at a path like "metadata_public.tenant"; "" if there is none."""
    place: Any = {"traits": identity.traits, "metadata_public": identity.metadata_public}
    for name in path.split("."):
        place = place.get(name) if isinstance(place, dict) else None
    return place if isinstance(place, str) else ""


def _not_signed_in() -> ApiError:
    return ApiError(
        401,
        "unauthorized",
        "there is no such session (any more): sign in again, or send an API key",
        headers={"WWW-Authenticate": 'Bearer realm="audiotext"'},
    )


def _away() -> ApiError:
    return ApiError(
        503,
        "unavailable",
        "Ory Kratos, which knows whose session this is, cannot be reached; API keys work",
        headers={"Retry-After": "2"},
    )
