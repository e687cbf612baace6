"""HTTP on one connection: aiohttp's, but for what it says of octets that are no request. That is a stack trace for each
in the log, and an answer that is no JSON; and anybody on the internet can send them."""

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.protection.log_rate_limit import RateLimitedLogger

_refusals = RateLimitedLogger(logging.getLogger(__name__))


class HttpHandler(web.RequestHandler):
    """Speaks HTTP with whoever has connected."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be read as a request; it closes the connection. All else is a fault of ours."""
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        reason = type(exc).__name__  # its text has what was sent, at whatever length
        _refusals.warning("%s sends what is no HTTP request: %s", request.remote, reason)
        answer = web.json_response({"error": f"that is no HTTP request: {reason}"}, status=status)
        answer.force_close()
        return answer
