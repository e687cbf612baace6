"""Forwards requests to the API process, so that one public port serves everything.

The connection guard has read the request's body before, so a slow client does not reach the API. Responses are
streamed.
"""

import logging
from collections.abc import Mapping
from typing import Annotated

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from pydantic import BaseModel, Field, ValidationError
from yarl import URL

from core.http_address import connector_for
from core.http_server import error_response

logger = logging.getLogger(__name__)

# RFC 9110, 7.6.1: these headers belong to one connection and are not forwarded, nor are those that `Connection` names.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=120)
_CHUNK = 64 * 1024


class _NotReady(BaseModel):
    """Response of the upstream's /readyz when it is not ready."""

    missing: Annotated[dict[str, str], Field(min_length=1)]


class Proxy:
    """Reverse proxy to one upstream. Call `close` at the end."""

    def __init__(self, upstream: str) -> None:
        """Needs a running event loop. upstream: http://host:port or unix:/path, as in settings.gateway.api_url."""
        connector, self._upstream = connector_for(upstream)
        self._client = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            auto_decompress=False,  # compressed bodies are forwarded as they are
            cookie_jar=aiohttp.DummyCookieJar(),  # cookies must not be shared between clients
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type", "Accept"),
            connector=connector,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def missing(self) -> Mapping[str, str]:
        """Returns the missing parts that the upstream's /readyz reports, within 4 s, because it checks three stores."""
        try:
            async with self._client.get(f"{self._upstream}/readyz", timeout=aiohttp.ClientTimeout(total=4)) as response:
                return {} if response.status == 200 else _NotReady.model_validate_json(await response.read()).missing
        except (aiohttp.ClientError, TimeoutError, ValidationError):
            return {"api": "its /readyz does not answer"}

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Sends the request to the upstream and returns its response, or a 502 if the upstream does not answer."""
        target = request.rel_url.raw_path_qs  # without the request's host, which must not choose the upstream
        body = await request.read() if request.body_exists else None
        response: web.StreamResponse | None = None
        try:
            async with self._client.request(
                request.method,
                URL(self._upstream + target, encoded=True),
                headers=_forwarded_headers(request),
                data=body,
                allow_redirects=False,
            ) as upstream:
                response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
                response.headers.extend(_end_to_end_headers(upstream.headers))
                await response.prepare(request)
                async for chunk in upstream.content.iter_chunked(_CHUNK):
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            client_left = request.transport is None or request.transport.is_closing()
            if not client_left:
                logger.warning("the API does not answer %s %s: %r", request.method, request.path, error)
            if response is not None and response.prepared:
                # Too late for a status. Aborting the connection shows the client that the response is incomplete.
                if request.transport is not None:
                    request.transport.abort()
                return response
            return error_response(502, "the API does not answer; try again in a moment")


def _end_to_end_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Returns the headers without those that belong to the connection."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP | named)


def _forwarded_headers(request: web.Request) -> CIMultiDict[str]:
    headers = _end_to_end_headers(request.headers)
    headers.popall("Expect", None)  # the gateway has already answered it
    chain = ", ".join(filter(None, (request.headers.get("X-Forwarded-For"), request.remote)))
    headers["X-Forwarded-For"] = chain
    headers.setdefault("X-Forwarded-Host", request.host)
    headers.setdefault("X-Forwarded-Proto", request.scheme)
    return headers
