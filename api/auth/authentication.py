"""Authentication methods of the API: the one place to add another.

A method reads a request and returns the principal that the request proves. It returns None if the request carries no
credentials of its kind, and raises ApiError if the credentials are invalid. The first method that finds credentials
decides.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from api.auth.key_authenticator import Authenticator, Principal, token_hash
from api.auth.revocations import Revocations
from api.auth.scope import Scope
from api.auth.sign_in_limiter import SIGN_IN_LIMITER
from api.errors import ApiError, unauthorized
from core.token_signer import TokenError, TokenSigner

AuthMethod = Callable[[web.Request], Awaitable[Principal | None]]

COOKIE = "audiotext_session"
CSRF_HEADER = "X-CSRF-Token"
SHARE_PARAMETER = "share"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class AuthenticatorChain:
    """Authentication methods in the order in which they are tried."""

    def __init__(self, methods: Sequence[AuthMethod]) -> None:
        self._methods = tuple(methods)

    async def principal(self, request: web.Request) -> Principal:
        """Returns the principal of the request.

        Raises ApiError 401 without credentials, and whatever the methods raise.
        """
        for method in self._methods:
            principal = await method(request)
            if principal is not None:
                return principal
        raise unauthorized()


AUTHENTICATOR_CHAIN = web.AppKey("authenticator_chain", AuthenticatorChain)
OWN_HOSTS = web.AppKey("own_hosts", frozenset[str])


def api_key_method(authenticator: Authenticator) -> AuthMethod:
    """Returns the method that reads `Authorization: Bearer KEY`."""

    async def method(request: web.Request) -> Principal | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        return await authenticator.authenticate(header, suspicious=is_suspicious(request))

    return method


def share_link_method(authenticator: Authenticator, token_signer: TokenSigner, revocations: Revocations) -> AuthMethod:
    """Returns the method that reads `?share=TOKEN`.

    The token gives read access to one call while both the token and the key that created it are valid, and the link is
    not revoked.
    """

    async def method(request: web.Request) -> Principal | None:
        token = request.query.get(SHARE_PARAMETER)
        if not token:
            return None
        try:
            claims = token_signer.verify("link", token)
        except TokenError:
            raise ApiError(401, "unauthorized", "this link has expired: request a new one") from None
        if await revocations.is_revoked(str(claims["jti"])):
            raise ApiError(401, "unauthorized", "this link was revoked: request a new one")
        principal = await authenticator.by_subject(str(claims["key"]))
        return replace(
            principal,
            scope=Scope.of(str(claims["tenant"])),
            via="link",
            only_call=str(claims["call"]),
            expires_at_ms=int(claims["exp"]) * 1000,
        )

    return method


def session_method(authenticator: Authenticator, token_signer: TokenSigner, revocations: Revocations) -> AuthMethod:
    """Returns the method that reads the cookie which a sign-in with a key sets."""

    async def method(request: web.Request) -> Principal | None:
        cookie = request.cookies.get(COOKIE)
        if not cookie:
            return None
        try:
            claims = token_signer.verify("session", cookie)
        except TokenError:
            return None  # the session has expired; another method may apply
        token_id = str(claims["jti"])
        if await revocations.is_revoked(token_id):
            return None  # the user has signed out
        token = token_signer.digest("csrf", cookie)
        require_same_site(request, token)
        principal = await authenticator.by_subject(str(claims["key"]))
        return replace(
            principal,
            via="session",
            expires_at_ms=int(claims["exp"]) * 1000,
            csrf_token=token,
            token_id=token_id,
        )

    return method


def is_suspicious(request: web.Request) -> bool:
    """Returns True if the client had too many failed sign-ins."""
    limiter = request.app[SIGN_IN_LIMITER]
    return limiter.wait_s(limiter.peer_of(request)) > 0


async def limited(request: web.Request, credentials: str, attempt: Awaitable[Principal]) -> Principal:
    """Returns the result of a sign-in, and counts and logs a failed one.

    credentials: description of what the client sent; "" = nothing, which is not counted. Raises what the attempt
    raises, or ApiError 429 instead of 401 after too many failures.
    """
    try:
        return await attempt
    except ApiError as error:
        if error.status != HTTPStatus.UNAUTHORIZED or not credentials:
            raise
        limiter = request.app[SIGN_IN_LIMITER]
        raise limiter.fail(limiter.peer_of(request), credentials) or error from None


def described_key(key: str) -> str:
    """Returns a description of a key that does not reveal it."""
    return f"a key whose SHA-256 begins with {token_hash(key)[:8]}"


def described_credentials(request: web.Request) -> str:
    """Returns a description of the credentials in a request, "" without any."""
    if (header := request.headers.get("Authorization")) is not None:
        return described_key(header.partition(" ")[2].strip())
    if request.query.get(SHARE_PARAMETER):
        return "a share link"
    return "a session cookie" if request.cookies.get(COOKIE) else ""


def require_same_site(request: web.Request, csrf_token: str) -> None:
    """Refuses a state change that another site may have made a browser request with its cookies.

    Raises ApiError 403. This is a second protection: the cookie is SameSite=Strict already.
    """
    if request.method in _SAFE:
        return
    require_own_origin(request)
    if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token.encode()):
        raise ApiError(403, "forbidden", f"send the session's csrf_token as {CSRF_HEADER}")


def require_own_origin(request: web.Request) -> None:
    """Refuses requests from a page of another origin. Raises ApiError 403.

    Our own origins are the request's Host and the configured public URL: a proxy in front of the API may not pass the
    public host name on.
    """
    origin = request.headers.get("Origin")
    if origin is not None and _netloc(origin) not in {request.host.lower(), *request.app[OWN_HOSTS]}:
        raise ApiError(403, "forbidden", f"the page at {origin!a} may not send this request: set AUDIOTEXT_PUBLIC_URL")


def own_hosts(public_url: str | None) -> frozenset[str]:
    """Returns the host names of our own pages that a request's Host header may not show."""
    return frozenset({_netloc(public_url)} if public_url else ())


def _netloc(origin: str) -> str:
    """Returns host and port in lower case, "" if the text is not an origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
