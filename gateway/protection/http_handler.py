"""aiohttp request handler that answers malformed HTTP with a JSON 400 and one log line.

aiohttp itself logs a stack trace for each malformed request and answers in plain text, and any client on the internet
can send such requests.
"""

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.protection.log_rate_limit import RateLimitedLogger

_warnings = RateLimitedLogger(logging.getLogger(__name__))


class HttpHandler(web.RequestHandler):
    """HTTP protocol of one connection."""

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
        _warnings.warning("%s sent malformed HTTP: %s", request.remote, reason)
        response = web.json_response({"error": f"malformed HTTP request: {reason}"}, status=status)
        response.force_close()
        return response
