"""What goes wrong, in one shape: `{"error": {"code", "message", "parameter"?}}`. Never a stack trace."""

import logging
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict

log = logging.getLogger(__name__)

_ASKER_LEFT = 499  # nginx' number for it
_RETRY_AFTER_S = 2  # a store on the same machine is restarted within that


class ErrorBody(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(title="Error")

    code: str
    message: str
    parameter: str | None = None


class ErrorResponse(BaseModel):
    """Every answer with a status of 400 or more."""

    error: ErrorBody


class ApiError(Exception):
    """An answer other than 2xx. code: for programs; message: for people; parameter: the one to correct."""

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
        """The answer itself."""
        return web.Response(
            status=self.status,
            headers=self.headers,
            content_type="application/json",
            text=self.body.model_dump_json(exclude_none=True),
        )


def unauthorized() -> ApiError:
    """No key, or one we do not know (any more)."""
    return ApiError(
        401,
        "unauthorized",
        "send an API key as `Authorization: Bearer KEY`; `audiotext keys create` makes one",
        headers={"WWW-Authenticate": 'Bearer realm="audiotext"'},
    )


def bad_parameter(name: str, message: str) -> ApiError:
    """A query parameter that cannot be used."""
    return ApiError(400, "bad_parameter", f"{name}: {message}", parameter=name)


def call_not_found(call_id: str) -> ApiError:
    """No such call for this key: another tenant's calls do not exist either."""
    return ApiError(404, "not_found", f"there is no call {call_id!r}")


def not_ready(message: str) -> ApiError:
    """It will come, but is not there yet."""
    return ApiError(404, "not_ready", message)


def unavailable(store: str) -> ApiError:
    """Something behind the API is away."""
    return ApiError(503, "unavailable", f"{store} cannot be reached", headers={"Retry-After": str(_RETRY_AFTER_S)})


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives every failure the one shape."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _from_http(error).response()
    except Exception as error:
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            # Whoever asked has left, as browsers do in the middle of a recording: no error of ours, and nobody reads
            # this answer. The number is for the metrics.
            return web.Response(status=_ASKER_LEFT)
        log.exception("%s %s failed", request.method, request.path)
        return ApiError(500, "internal", "something went wrong here; the server's log says what").response()


def _from_http(error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals (no such path, method not allowed, body too large)."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{error.method} is not possible here, only {allowed}"
        return ApiError(405, "method_not_allowed", message, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, "not_found", "there is no such path; /openapi.json lists all there are")
    return ApiError(error.status, "refused", error.reason)
