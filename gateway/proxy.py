"""Passes requests on to the API process, so that one public port serves everything. Streams both ways."""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from pydantic import BaseModel, Field, ValidationError
from yarl import URL

log = logging.getLogger(__name__)

# RFC 9110, 7.6.1: these belong to one connection and are not passed on; nor is whatever `Connection` names.
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


class _Unready(BaseModel):
    """The upstream's answer when it is not ready."""

    missing: Annotated[dict[str, str], Field(min_length=1)]


class Proxy:
    """A reverse proxy to one upstream. `close` when done."""

    def __init__(self, upstream: str) -> None:
        """upstream: http://host:port, as in settings.gateway.api_url. Needs a running event loop."""
        self._upstream = upstream.rstrip("/")
        self._client = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            auto_decompress=False,  # what is compressed is passed on as it is
            cookie_jar=aiohttp.DummyCookieJar(),  # one caller's cookies are not another's
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type", "Accept"),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def missing(self) -> Mapping[str, str]:
        """What the upstream's own /readyz misses, by part, within 4 s: it asks three stores itself."""
        try:
            async with self._client.get(f"{self._upstream}/readyz", timeout=aiohttp.ClientTimeout(total=4)) as response:
                return {} if response.status == 200 else _Unready.model_validate_json(await response.read()).missing
        except (aiohttp.ClientError, TimeoutError, ValidationError):
            return {"api": "its /readyz does not answer"}

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """The upstream's answer to the request; 502 when there is none."""
        target = request.rel_url.raw_path_qs  # never the request's own host: it must not choose the upstream
        if not target.startswith("/"):
            return web.json_response({"error": "bad request target"}, status=400)
        answer: web.StreamResponse | None = None
        try:
            async with self._client.request(
                request.method,
                URL(self._upstream + target, encoded=True),
                headers=_forwarded(request),
                data=_body(request),
                allow_redirects=False,
            ) as upstream:
                answer = web.StreamResponse(status=upstream.status, reason=upstream.reason)
                answer.headers.extend(_end_to_end(upstream.headers))
                await answer.prepare(request)
                async for chunk in upstream.content.iter_chunked(_CHUNK):
                    await answer.write(chunk)
                await answer.write_eof()
                return answer
        except (aiohttp.ClientError, TimeoutError) as error:
            gone = request.transport is None or request.transport.is_closing()
            if not gone:  # else it is the caller who hung up, which is its right
                log.warning("the API does not answer %s %s: %r", request.method, request.path, error)
            if answer is not None and answer.prepared:
                # Too late for a status: cut the connection, so that half an answer is not taken for a whole one.
                if request.transport is not None:
                    request.transport.abort()
                return answer
            return web.json_response({"error": "the API does not answer; try again in a moment"}, status=502)


def _body(request: web.Request) -> AsyncIterator[bytes] | None:
    return request.content.iter_chunked(_CHUNK) if request.can_read_body else None


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers without those of the connection they came over."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP | named)


def _forwarded(request: web.Request) -> CIMultiDict[str]:
    headers = _end_to_end(request.headers)
    headers.popall("Expect", None)  # answered by us already
    chain = ", ".join(filter(None, (request.headers.get("X-Forwarded-For"), request.remote)))
    headers["X-Forwarded-For"] = chain
    headers.setdefault("X-Forwarded-Host", request.host)
    headers.setdefault("X-Forwarded-Proto", request.scheme)
    return headers
