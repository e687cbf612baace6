"""The ways to say who one is: the one place to add another.

A way looks at a request and gives the principal it proves, None if the request has nothing of its kind, or raises
ApiError if what it has is not good. The first that has something decides.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import web

from api.auth.key_authenticator import Authenticator, Principal
from api.auth.signed_tokens import TokenSigner
from api.errors import ApiError, unauthorized

Way = Callable[[web.Request], Awaitable[Principal | None]]

COOKIE = "audiotext_session"
CSRF_HEADER = "X-CSRF-Token"
SHARE_PARAMETER = "share"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class AuthenticatorChain:
    """Tells who asks."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._ways = tuple(ways)

    async def principal(self, request: web.Request) -> Principal:
        """Who asks. Raises ApiError 401 or 403; lets pass what the ways raise."""
        for way in self._ways:
            principal = await way(request)
            if principal is not None:
                return principal
        raise unauthorized()


DOOR = web.AppKey("door", AuthenticatorChain)
KNOWN_AS = web.AppKey("known_as", frozenset[str])


def by_key(authenticator: Authenticator) -> Way:
    """`Authorization: Bearer KEY`."""

    async def way(request: web.Request) -> Principal | None:
        header = request.headers.get("Authorization")
        return None if header is None else await authenticator.authenticate(header)

    return way


def by_link(authenticator: Authenticator, seal: TokenSigner) -> Way:
    """`?share=TOKEN`: one call, to look at, as long as the token and the key it was made with are good."""

    async def way(request: web.Request) -> Principal | None:
        token = request.query.get(SHARE_PARAMETER)
        if not token:
            return None
        claims = seal.verify("link", token)
        if claims is None:
            raise ApiError(401, "unauthorized", "this link has expired; ask for a new one")
        principal = await authenticator.by_subject(str(claims["key"]))
        return replace(
            principal,
            tenant=str(claims["tenant"]),
            via="link",
            only_call=str(claims["call"]),
            expires_at_ms=int(claims["exp"]) * 1000,
        )

    return way


def by_session(authenticator: Authenticator, seal: TokenSigner) -> Way:
    """The cookie that signing in with a key set."""

    async def way(request: web.Request) -> Principal | None:
        cookie = request.cookies.get(COOKIE)
        if not cookie:
            return None
        claims = seal.verify("session", cookie)
        if claims is None:
            return None  # it is over; there may be another way
        token = seal.digest("csrf", cookie)
        require_same_site(request, token)
        principal = await authenticator.by_subject(str(claims["key"]))
        return replace(principal, via="session", expires_at_ms=int(claims["exp"]) * 1000, csrf_token=token)

    return way


def require_same_site(request: web.Request, csrf_token: str) -> None:
    """Refuses a change that another site may have made a browser ask for, cookies and all. Raises ApiError 403.

    Belt and braces: the cookie is SameSite=Strict already.
    """
    if request.method in _SAFE:
        return
    require_own_origin(request)
    if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token.encode()):
        raise ApiError(403, "forbidden", f"send the session's csrf_token as {CSRF_HEADER}")


def require_own_origin(request: web.Request) -> None:
    """Refuses what a page of another origin asks. Raises ApiError 403. Our own is where the request went, and where we
    are known: a proxy in front of us need not pass on the one for the other."""
    origin = request.headers.get("Origin")
    if origin is not None and _netloc(origin) not in {request.host.lower(), *request.app[KNOWN_AS]}:
        raise ApiError(403, "forbidden", f"the page at {origin!a} may not ask this")


def known_as(public_url: str | None) -> frozenset[str]:
    """What the origins of our own pages are called, where the request need not say it."""
    return frozenset({_netloc(public_url)} if public_url else ())


def _netloc(origin: str) -> str:
    """Lower case; "" of what is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
