"""Parts of an HTTP server that gateway and API share: time limits, and short answers to malformed requests.

aiohttp itself keeps an idle connection for an hour, waits for a body without end, and logs a stack trace for each
malformed request. Any client on the internet can cause all three.
"""

import asyncio
import errno
import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

logger = logging.getLogger(__name__)

# By status; "refused" for all others.
_CODES = {
    400: "malformed",
    401: "unauthorized",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    429: "too_many_requests",
    502: "unavailable",
    503: "unavailable",
}

KEEPALIVE_S = 75.0
"""Time that a connection may stay open without a complete request. Proxies in front use shorter ones."""

OPTIONS: dict[str, Any] = {"access_log": None, "lingering_time": 1, "keepalive_timeout": KEEPALIVE_S}
"""Options of aiohttp's runner and of each connection."""


# aiohttp's own value of Server names its version and Python's.
_HEADERS = {"Server": "audiotext", "X-Content-Type-Options": "nosniff"}
_HSTS = "max-age=31536000"


class HttpHandler(web.RequestHandler):
    """HTTP protocol of one connection. Malformed HTTP gets a JSON 400 and one log line."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Returns the response to malformed HTTP, which closes the connection; other errors go to aiohttp."""
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        reason = type(exc).__name__  # the exception's text contains the received bytes, however many
        logger.warning("%s sent malformed HTTP: %s", request.remote, reason)
        response = error_response(status, f"malformed HTTP request: {reason}", _HEADERS)
        response.force_close()
        return response


def protect_responses(app: web.Application, base_url: str) -> None:
    """Adds the headers that every answer has, whatever its handler: see `_HEADERS`, and HSTS if the address is https.

    base_url: public address.
    """
    headers = _HEADERS | ({"Strict-Transport-Security": _HSTS} if base_url.startswith("https:") else {})

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(headers)

    app.on_response_prepare.append(add_headers)


def error_body(status: int, message: str) -> dict[str, dict[str, str]]:
    """Returns an error in the shape that all HTTP errors have."""
    return {"error": {"code": _CODES.get(status, "refused"), "message": message}}


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns the response to a request that is refused."""
    text = json.dumps(error_body(status, message), separators=(",", ":"))
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def protocol_factory(
    runner: web.AppRunner, handler: Callable[..., HttpHandler] = HttpHandler, **options: object
) -> Callable[[], asyncio.Protocol]:
    """Returns the protocol factory for the connections of a runner that is set up.

    options: of aiohttp's connections, besides `OPTIONS`.
    """
    assert runner.server is not None
    return partial(handler, runner.server, loop=asyncio.get_running_loop(), **(OPTIONS | options))


def malformed_target(request: web.BaseRequest) -> str:
    """Returns the error of a target that is not a path, or "".

    A proxy's target (GET http://…, CONNECT host:port, OPTIONS *) names another host than the one that was signed and
    routed.
    """
    return "" if request.raw_path.startswith("/") else "the request target must begin with /"


async def read_body(request: web.Request, timeout_s: float) -> bytes:
    """Returns the whole body of a request. Further reads return it again, without waiting.

    Raises HTTPRequestTimeout (408), HTTPRequestEntityTooLarge (413), or HTTPBadRequest (400) if the body is malformed
    or its connection is lost. After each of them the connection must be closed.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"no complete body within {timeout_s:g} s") from None
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
        raise web.HTTPBadRequest(text="the body is malformed or incomplete") from None


def listen_error(host: str, port: int, error: OSError, setting: str) -> str:
    """Returns the message for a port that cannot be used. setting: the variable that names another one."""
    reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return f"port {port} on {host} {reason}: choose another with {setting}"
