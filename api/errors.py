"""Errors of the API in one shape: `{"error": {"code", "message", "parameter"?}}`, never a stack trace."""

import logging
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict

from sinks.clickhouse.ambiguity import AmbiguousCallError

logger = logging.getLogger(__name__)

_CLIENT_CLOSED_REQUEST = 499  # nginx' status code for it
_RETRY_AFTER_S = 2  # a store on the same machine restarts within this time


class ErrorBody(BaseModel):
    """Error: `code` for programs, `message` for people, `parameter` to correct."""

    model_config = ConfigDict(title="Error")

    code: str
    message: str
    parameter: str | None = None


class ErrorResponse(BaseModel):
    """Body of every response with a status of 400 or more."""

    error: ErrorBody


class ApiError(Exception):
    """Response other than 2xx. code: for programs; message: for people; parameter: the one to correct."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorResponse(error=ErrorBody(code=code, message=message, parameter=parameter))
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """Returns the HTTP response."""
        return web.Response(
            status=self.status,
            headers=self.headers,
            content_type="application/json",
            text=self.body.model_dump_json(exclude_none=True),
        )


def unauthorized() -> ApiError:
    """Returns the error for a missing, unknown or revoked key."""
    return ApiError(
        401,
        "unauthorized",
        "send an API key as `Authorization: Bearer KEY`; `audiotext keys create` creates one",
        headers={"WWW-Authenticate": 'Bearer realm="audiotext"'},
    )


def bad_parameter(name: str, message: str) -> ApiError:
    """Returns the error for an invalid parameter."""
    return ApiError(400, "bad_parameter", f"{name}: {message}", parameter=name)


def call_not_found(call_id: str) -> ApiError:
    """Returns the error for a call that does not exist or belongs to another tenant."""
    return ApiError(404, "not_found", f"there is no call {call_id!r}")


def not_ready(message: str) -> ApiError:
    """Returns the error for a result that is still to come."""
    return ApiError(404, "not_ready", message)


def unavailable(store: str) -> ApiError:
    """Returns the error for a store or service that is unavailable."""
    return ApiError(503, "unavailable", f"{store} cannot be reached", headers={"Retry-After": str(_RETRY_AFTER_S)})


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every failure into a response of the common shape."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except AmbiguousCallError as error:
        return ApiError(409, "ambiguous_call", str(error), parameter="tenant").response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _from_http(error).response()
    except Exception as error:
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            # The client has disconnected, as browsers do in the middle of a recording. This is not our error, and
            # no client reads this response. The status is for the metrics.
            return web.Response(status=_CLIENT_CLOSED_REQUEST)
        logger.exception("%s %s failed", request.method, request.path)
        return ApiError(500, "internal", "internal error: see the server's log").response()


def _from_http(error: web.HTTPException) -> ApiError:
    """Converts aiohttp's own errors (no such path, method not allowed, body too large)."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{error.method} is not allowed here: use {allowed}"
        return ApiError(405, "method_not_allowed", message, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, "not_found", "this path does not exist: /openapi.json lists all paths")
    if isinstance(error, web.HTTPRequestTimeout):
        return ApiError(408, "timeout", error.text or error.reason)
    return ApiError(error.status, "refused", error.reason)
