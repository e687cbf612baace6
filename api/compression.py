"""Compresses JSON and text for clients that accept gzip, but not event streams and recordings."""

import gzip
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from api.threads import in_thread

_SMALLEST = 1_024  # bytes: compression gains nothing on smaller responses
_LONG = 65_536  # bytes: compressing more would block the event loop for other requests
_LEVEL = 5
_TYPES = ("application/json", "application/x-subrip", "text/")


@web.middleware
async def gzip_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compresses a response body that is complete, long enough and compressible, if the client accepts gzip."""
    response = await handler(request)
    if not isinstance(response, web.Response) or not response.content_type.startswith(_TYPES):
        return response
    if "Content-Encoding" in response.headers:
        return response
    response.headers["Vary"] = "Accept-Encoding"
    body = response.body
    if not isinstance(body, bytes) or len(body) < _SMALLEST or not accepts_gzip(request):
        return response
    compress = partial(gzip.compress, body, _LEVEL, mtime=0)
    response.body = compress() if len(body) < _LONG else await in_thread(compress, "gzip")
    response.headers["Content-Encoding"] = "gzip"
    return response


def accepts_gzip(request: web.Request) -> bool:
    """True if the client's Accept-Encoding lists gzip with a weight above 0."""
    for item in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
