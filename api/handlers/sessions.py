"""Signing in and out with a key, and links that show one call."""

import time

from aiohttp import web

from api.auth.authentication import COOKIE, SHARE_PARAMETER, require_own_origin
from api.endpoint import ApiRequest
from api.errors import ApiError
from api.models import Link, LinkRequest, Session, SignIn, call_path
from api.params import NoQuery
from api.responses import json_response


async def sign_in(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Exchanges a key for a cookie that scripts cannot read."""
    require_own_origin(asked.request)  # else a page could sign a visitor in as somebody else
    key = (await asked.body(SignIn)).key.strip()
    services = asked.services
    principal = await asked.authenticator.by_key(key)
    ttl_s = services.settings.api.session_ttl_s
    cookie = services.seal.sign("session", {"key": principal.subject}, ttl_s)
    response = json_response(
        Session(
            tenant=principal.tenant,
            via="session",
            expires_at_ms=(int(time.time()) + ttl_s) * 1000,
            csrf_token=services.seal.digest("csrf", cookie),
        ),
        status=201,
    )
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=ttl_s,
        httponly=True,
        samesite="Strict",
        secure=services.settings.base_url.startswith("https:"),
        path="/",
    )
    return response


async def get_session(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Who asks, as what was sent proves it."""
    principal = asked.principal
    return json_response(
        Session(
            tenant=principal.tenant,
            via=principal.via,
            expires_at_ms=principal.expires_at_ms,
            csrf_token=principal.csrf_token,
        )
    )


async def sign_out(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Takes the cookie back."""
    response = web.Response(status=204, headers={"Cache-Control": "no-store"})
    response.del_cookie(COOKIE, path="/")
    return response


async def share_call(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """A link to the call for somebody without a key."""
    wanted = await asked.body(LinkRequest)
    services, call = asked.services, await asked.call()
    if not asked.principal.subject:
        raise ApiError(403, "forbidden", "a link is made with an API key")
    claims = {"key": asked.principal.subject, "tenant": call.tenant, "call": call.id}
    token = services.seal.sign("link", claims, wanted.expires_in_s)
    page = call_path(call.id).removeprefix("/v1")
    return json_response(
        Link(
            url=f"{services.settings.base_url}{page}?{SHARE_PARAMETER}={token}",
            token=token,
            expires_at_ms=(int(time.time()) + wanted.expires_in_s) * 1000,
        ),
        status=201,
    )
