"""Rejects forged webhooks by the raw bytes of an unauthenticated client's first request.

Parsing a request with aiohttp costs several times as much as checking a carrier's signature here. The prefilter rejects
only requests that the gateway would reject anyway; a request it cannot read with certainty goes to the HTTP server.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from multidict import CIMultiDict

from gateway.admission.stream_authorizer import TOO_MANY_UNAUTHENTICATED, StreamAuthorizer
from gateway.carriers.base import Carrier, IncomingRequest, UnauthorizedError
from gateway.carriers.common.webhook_fields import read_form
from gateway.metrics import Metrics
from gateway.protection.client_limiter import WINDOW_S, ClientLimiter
from gateway.protection.log_rate_limit import RateLimitedLogger

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 16 * 1024
"""Largest request that the prefilter reads; carriers send some hundred bytes."""

MEDIA_PATH = "/v1/media/"

CARRIER_PATHS = {MEDIA_PATH: ("GET",), "/v1/voice/": ("GET", "POST"), "/v1/status/": ("GET", "POST")}
"""Paths that carriers request, followed by the carrier's name, with their methods."""

_HEAD_END = b"\r\n\r\n"

# The part of RFC 9112, sections 3 and 5, that carriers use. Folded lines, absolute targets and unusual characters are
# left to the HTTP server.
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)")
_LENGTH = re.compile(r"\d{1,5}")
_CONTENT_TYPE = re.compile(r"((?:[a-z]+/[a-z.+-]+)?)(?:\s*;.*)?", re.IGNORECASE)
_UNSUPPORTED_HEADERS = (
    "Transfer-Encoding",
    "Content-Encoding",
    "Expect",
)  # with these the body is not simply the rest of the data


Verdict = bytes | int | None
"""Decision on a request: bytes = send this response and close; int = wait for this many bytes; None = accept it."""


class UnfinishedError(Exception):
    """The request is incomplete. needed: number of bytes to wait for before the next attempt."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"less than {needed} bytes")
        self.needed = needed


@dataclass(frozen=True, slots=True)
class RawRequest:
    """Request read from raw bytes. target: path and query string. form: the fields, if the body is a form."""

    method: str
    target: str
    headers: CIMultiDict[str]
    form: Sequence[tuple[str, str]]
    body: bytes


def read_request(data: bytes) -> RawRequest | None:
    """Returns the request at the beginning of the data, or None if the HTTP server has to read it.

    Raises UnfinishedError.
    """
    if _HEAD_END not in data and len(data) < MAX_REQUEST_BYTES:
        raise UnfinishedError(len(data) + 1)
    head, _, body = data.partition(_HEAD_END)
    line, *fields = head.split(b"\r\n")
    request, headers = _REQUEST_LINE.fullmatch(line), _headers(fields)
    content = _content_type_and_length(headers) if request and headers is not None else None
    if request is None or headers is None or content is None:
        return None
    content_type, length = content
    if len(head) + length > MAX_REQUEST_BYTES:
        return None
    if len(body) < length:
        raise UnfinishedError(len(data) - len(body) + length)
    try:
        form = read_form(content_type, body[:length])
    except ValueError:
        return None
    return RawRequest(request[1].decode(), request[2].decode(), headers, form, body[:length])


class RequestPrefilter:
    """Decides on the first request of an unauthenticated client."""

    def __init__(
        self,
        carriers: Mapping[str, Carrier],
        authorizer: StreamAuthorizer,
        limiter: ClientLimiter,
        metrics: Metrics,
        sockets_limit_reached: Callable[[], bool],
    ) -> None:
        """sockets_limit_reached: returns True if no further socket may wait for the token in its stream's start."""
        self._carriers = carriers
        self._authorizer = authorizer
        self._limiter = limiter
        self._sockets_limit_reached = sockets_limit_reached
        # Prepared once, because a flood needs them thousands of times.
        self._forged_sockets = metrics.refused.labels("unauthorized")
        self._forged_webhooks = metrics.refused_webhooks.labels("unauthorized")
        self._unauthenticated_sockets = metrics.refused.labels("unproven")
        self._flood = metrics.flood
        self._warnings = RateLimitedLogger(logger)
        self._forbidden = _json_response("403 Forbidden", "forbidden")
        self._too_many_unauthenticated = _json_response("503 Service Unavailable", TOO_MANY_UNAUTHENTICATED)

    def __call__(self, data: bytes, peer: str) -> Verdict:
        """Decides on the data received so far. peer: address of the connection's other end, which is not a proxy."""
        try:
            raw = read_request(data)
        except UnfinishedError as error:
            return error.needed
        if raw is None:
            return self._limit_response(peer, shared=False)
        path, name = self._carrier_route(raw.method, raw.target.partition("?")[0])
        if not name:
            return self._limit_response(peer, shared=True)
        request = IncomingRequest(raw.target, raw.headers, raw.form, raw.body, peer, time.time())
        refusal = self._refusal(path, name, request)
        if refusal is not None:
            self._limiter.record_refusal(peer)
            return refusal
        return self._limit_response(peer, shared=False)

    def is_webhook(self, method: str, path: str) -> bool:
        """Returns True if carriers send such requests, whether or not this one comes from a carrier."""
        return bool(self._carrier_route(method, path)[1])

    def _carrier_route(self, method: str, path: str) -> tuple[str, str]:
        """Returns the path before the carrier's name and the name; "" and "" if carriers send no such request."""
        before, _, name = path.rpartition("/")
        before += "/"
        return (before, name) if method in CARRIER_PATHS.get(before, ()) and name in self._carriers else ("", "")

    def _refusal(self, path: str, name: str, request: IncomingRequest) -> bytes | None:
        """Returns the response that rejects an unauthorized carrier's request, and counts it; None to accept it."""
        carrier = self._carriers[name]
        try:
            if path != MEDIA_PATH:
                self._authorizer.authorize_webhook(carrier, request)
                return None
            admission = self._authorizer.authorize(name, carrier, request)
            if admission.authenticated or not self._sockets_limit_reached():
                return None
        except UnauthorizedError as error:
            self._warnings.warning("%s: %s refused: %s", name, path, error)
            (self._forged_sockets if path == MEDIA_PATH else self._forged_webhooks).inc()
            return self._forbidden
        self._unauthenticated_sockets.inc()
        return self._too_many_unauthenticated

    def _limit_response(self, peer: str, *, shared: bool) -> bytes | None:
        """Returns the response that rejects a request over a limit; None if no limit is exceeded."""
        error = self._limiter.limit_for(peer, shared=shared)
        if not error:
            return None
        own = self._limiter.limit_for(peer, shared=False)
        status = "429 Too Many Requests" if own else "503 Service Unavailable"
        self._flood.inc()
        self._limiter.record_refusal(peer)
        return _json_response(status, error, f"Retry-After: {WINDOW_S:.0f}\r\n")


def _headers(fields: Iterable[bytes]) -> CIMultiDict[str] | None:
    headers = CIMultiDict[str]()
    for field in fields:
        found = _FIELD.fullmatch(field)
        if found is None:
            return None
        headers.add(found[1].decode(), found[2].rstrip(b" \t").decode())
    return headers


def _content_type_and_length(headers: CIMultiDict[str]) -> tuple[str, int] | None:
    """Returns the body's type ("" if missing) and its length in bytes; None if the HTTP server has to read it."""
    types, lengths = headers.getall("Content-Type", [""]), headers.getall("Content-Length", ["0"])
    if len(types) > 1 or len(lengths) > 1 or any(name in headers for name in _UNSUPPORTED_HEADERS):
        return None
    found = _CONTENT_TYPE.fullmatch(types[0])
    if found is None or _LENGTH.fullmatch(lengths[0]) is None:
        return None
    return found[1].lower(), int(lengths[0])


def _json_response(status: str, error: str, headers: str = "") -> bytes:
    body = json.dumps({"error": error})
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"{headers}Connection: close\r\n\r\n{body}"
    ).encode()
