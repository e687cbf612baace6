"""Endpoints for sign-in and sign-out with a key, and for links that show one call."""

import time

from aiohttp import web

from api.auth.authentication import (
    COOKIE,
    SHARE_PARAMETER,
    described_key,
    is_suspicious,
    limited,
    require_own_origin,
)
from api.endpoint import ApiRequest
from api.errors import ApiError
from api.models import Link, LinkItem, LinkList, LinkRequest, Session, SignIn, call_path
from api.params import NoQuery
from api.responses import json_response
from sinks.clickhouse.token_queries import IssuedToken


async def sign_in(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Exchanges a key for a cookie that scripts cannot read."""
    require_own_origin(api_request.request)  # or another site could sign a visitor in under a foreign key
    key = (await api_request.body(SignIn)).key.strip()
    context = api_request.context
    request = api_request.request
    attempt = api_request.authenticator.by_key(key, suspicious=is_suspicious(request))
    principal = await limited(request, described_key(key), attempt)
    ttl_s = context.settings.api.session_ttl_s
    cookie = context.token_signer.sign("session", {"key": principal.subject}, ttl_s)
    api_request.revocations.mark(context.token_signer.verify("session", cookie)["jti"], revoked=False)
    response = json_response(
        Session(
            tenant=principal.tenant,
            via="session",
            expires_at_ms=(int(time.time()) + ttl_s) * 1000,
            csrf_token=context.token_signer.digest("csrf", cookie),
        ),
        status=201,
    )
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=ttl_s,
        httponly=True,
        samesite="Strict",
        secure=context.settings.base_url.startswith("https:"),
        path="/",
    )
    return response


async def get_session(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns the client's identity and session."""
    principal = api_request.principal
    return json_response(
        Session(
            tenant=principal.tenant,
            via=principal.via,
            expires_at_ms=principal.expires_at_ms,
            csrf_token=principal.csrf_token,
        )
    )


async def sign_out(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Ends the session at every API process, and deletes the cookie."""
    context, principal = api_request.context, api_request.principal
    if principal.token_id and principal.expires_at_ms is not None:
        ended = IssuedToken(
            id=principal.token_id,
            tenant=principal.tenant or "",
            call_id="",
            created_at_ms=_now_ms(),
            expires_at_ms=principal.expires_at_ms,
            revoked=True,
        )
        await context.clickhouse(context.tokens.put, ended)
        api_request.revocations.mark(ended.id, revoked=True)
    response = web.Response(status=204, headers={"Cache-Control": "no-store"})
    response.del_cookie(COOKIE, path="/")
    return response


async def share_call(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Creates a link to the call for people without a key."""
    wanted = await api_request.body(LinkRequest)
    context, call = api_request.context, await api_request.call()
    if not api_request.principal.subject:
        raise ApiError(403, "forbidden", "only an API key can create a link: sign in with a key")
    claims = {"key": api_request.principal.subject, "tenant": call.tenant, "call": call.id}
    token = context.token_signer.sign("link", claims, wanted.expires_in_s)
    signed = context.token_signer.verify("link", token)
    link = IssuedToken(
        id=signed["jti"],
        tenant=call.tenant,
        call_id=call.id,
        created_at_ms=_now_ms(),
        expires_at_ms=signed["exp"] * 1000,
    )
    await context.clickhouse(context.tokens.put, link)
    page = call_path(call.id).removeprefix("/v1")
    return json_response(
        Link(
            id=link.id,
            url=f"{context.settings.base_url}{page}?{SHARE_PARAMETER}={token}",
            token=token,
            expires_at_ms=link.expires_at_ms,
        ),
        status=201,
    )


async def list_links(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns the call's valid links, without their tokens."""
    context, call = api_request.context, await api_request.call()
    links = await context.clickhouse(context.tokens.links, call.tenant, call.id)
    return json_response(
        LinkList(
            links=[
                LinkItem(id=link.id, created_at_ms=link.created_at_ms, expires_at_ms=link.expires_at_ms)
                for link in links
            ]
        )
    )


async def revoke_link(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Ends a link at every API process."""
    context, call = api_request.context, await api_request.call()
    wanted = api_request.request.match_info["link"]
    links = await context.clickhouse(context.tokens.links, call.tenant, call.id)
    link = next((one for one in links if one.id == wanted), None)
    if link is None:
        raise ApiError(404, "not_found", f"the call has no valid link {wanted!r}")
    await context.clickhouse(context.tokens.put, link.model_copy(update={"revoked": True}))
    api_request.revocations.mark(link.id, revoked=True)
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
