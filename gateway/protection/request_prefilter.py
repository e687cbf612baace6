"""What a stranger's first request is, by its octets, before HTTP's machinery is spent on it: that costs several times
as much as to see that a carrier's signature is forged. Forged is only what would be forbidden in any case; whatever is
not plain is left to HTTP."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from multidict import CIMultiDict

from gateway.admission.stream_authorizer import TOO_MANY_UNPROVEN, StreamAuthorizer
from gateway.carriers.base import Carrier, IncomingRequest, UnauthorizedError
from gateway.carriers.common.webhook_fields import read_form
from gateway.metrics import Metrics
from gateway.protection.client_limiter import WINDOW_S, ClientLimiter
from gateway.protection.log_rate_limit import RateLimitedLogger

log = logging.getLogger(__name__)

MOST_BYTES = 16 * 1024
"""What is looked at; carriers' requests have some hundred."""

MEDIA_PATH = "/v1/media/"

CARRIERS_PATHS = {MEDIA_PATH: ("GET",), "/v1/voice/": ("GET", "POST"), "/v1/status/": ("GET", "POST")}
"""What carriers ask for, followed by the carrier's name, and the methods by which they do."""

_END = b"\r\n\r\n"

# RFC 9112, 3 and 5, and no more of it than carriers use: what is folded, absolute or has odd characters is not plain.
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)")
_LENGTH = re.compile(r"\d{1,5}")
_CONTENT_TYPE = re.compile(r"((?:[a-z]+/[a-z.+-]+)?)(?:\s*;.*)?", re.IGNORECASE)
_NOT_PLAIN = ("Transfer-Encoding", "Content-Encoding", "Expect")  # then the body is not what follows the head


Verdict = bytes | int | None
"""What to do about a request: answer this and hang up; look again when so many octets are there; or have it heard."""


class UnfinishedError(Exception):
    """Not all of a request is there. needed: how many octets there must be before looking at it again."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"less than {needed} octets")
        self.needed = needed


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A plain request. target: path and query string as on its line. form: the fields, if the body is one."""

    method: str
    target: str
    headers: CIMultiDict[str]
    form: Sequence[tuple[str, str]]
    body: bytes


def read_request(octets: bytes) -> RawRequest | None:
    """The request that these octets begin with; None if it is not plain. Raises UnfinishedError."""
    if _END not in octets and len(octets) < MOST_BYTES:
        raise UnfinishedError(len(octets) + 1)
    head, _, body = octets.partition(_END)
    line, *fields = head.split(b"\r\n")
    request, headers = _REQUEST_LINE.fullmatch(line), _headers(fields)
    content = _content(headers) if request and headers is not None else None
    if request is None or headers is None or content is None:
        return None
    content_type, length = content
    if len(head) + length > MOST_BYTES:
        return None
    if len(body) < length:
        raise UnfinishedError(len(octets) - len(body) + length)
    try:
        form = read_form(content_type, body[:length])
    except ValueError:
        return None
    return RawRequest(request[1].decode(), request[2].decode(), headers, form, body[:length])


class RequestPrefilter:
    """Judges what has come of a stranger's first request."""

    def __init__(
        self,
        carriers: Mapping[str, Carrier],
        admissions: StreamAuthorizer,
        strangers: ClientLimiter,
        metrics: Metrics,
        sockets_crowded: Callable[[], bool],
    ) -> None:
        """sockets_crowded: whether as many sockets wait for their proof as may at once."""
        self._carriers = carriers
        self._admissions = admissions
        self._strangers = strangers
        self._sockets_crowded = sockets_crowded
        # Made here, since they are for who asks thousands of times.
        self._forged_sockets = metrics.refused.labels("unauthorized")
        self._forged_webhooks = metrics.refused_webhooks.labels("unauthorized")
        self._unproven_sockets = metrics.refused.labels("unproven")
        self._flood = metrics.flood
        self._refusals = RateLimitedLogger(log)
        self._forbidden = _answer("403 Forbidden", "forbidden")
        self._too_many_unproven = _answer("503 Service Unavailable", TOO_MANY_UNPROVEN)

    def __call__(self, octets: bytes, peer: str) -> Verdict:
        """peer: the other end of the connection, which is no proxy."""
        try:
            asked = read_request(octets)
        except UnfinishedError as error:
            return error.needed
        if asked is None:
            return self._unless_beyond(peer, in_crowd=False)
        path, name = self._carriers_path(asked.method, asked.target.partition("?")[0])
        if not name:
            return self._unless_beyond(peer, in_crowd=True)
        proof = IncomingRequest(asked.target, asked.headers, asked.form, asked.body, peer, time.time())
        refusal = self._refusal(path, name, proof)
        if refusal is not None:
            self._strangers.refused(peer)
            return refusal
        return self._unless_beyond(peer, in_crowd=False)

    def is_webhook(self, method: str, path: str) -> bool:
        """Whether this is what a carrier asks for, whoever asks."""
        return bool(self._carriers_path(method, path)[1])

    def _carriers_path(self, method: str, path: str) -> tuple[str, str]:
        """The path before the carrier's name, and that; "" and "" if it is nothing that a carrier asks for."""
        before, _, name = path.rpartition("/")
        before += "/"
        return (before, name) if method in CARRIERS_PATHS.get(before, ()) and name in self._carriers else ("", "")

    def _refusal(self, path: str, name: str, proof: IncomingRequest) -> bytes | None:
        """The answer to a carrier's request that does not prove what it has to by now; counted."""
        try:
            if path != MEDIA_PATH:
                self._admissions.webhook(self._carriers[name], proof)
                return None
            if self._admissions.authorize(name, self._carriers[name], proof).proven or not self._sockets_crowded():
                return None
        except UnauthorizedError as error:
            self._refusals.warning("%s: %s refused: %s", name, path, error)
            (self._forged_sockets if path == MEDIA_PATH else self._forged_webhooks).inc()
            return self._forbidden
        self._unproven_sockets.inc()
        return self._too_many_unproven

    def _unless_beyond(self, peer: str, *, in_crowd: bool) -> bytes | None:
        """None, unless this request is beyond a limit."""
        limit = self._strangers.limit_for(peer, in_crowd=in_crowd)
        if not limit:
            return None
        own = self._strangers.limit_for(peer, in_crowd=False)
        status = "429 Too Many Requests" if own else "503 Service Unavailable"
        self._flood.inc()
        self._strangers.refused(peer)
        return _answer(status, limit, f"Retry-After: {WINDOW_S:.0f}\r\n")


def _headers(fields: Iterable[bytes]) -> CIMultiDict[str] | None:
    headers = CIMultiDict[str]()
    for field in fields:
        found = _FIELD.fullmatch(field)
        if found is None:
            return None
        headers.add(found[1].decode(), found[2].rstrip(b" \t").decode())
    return headers


def _content(headers: CIMultiDict[str]) -> tuple[str, int] | None:
    """The body's type, "" if none is given, and how many octets it has; None if that is not plain."""
    types, lengths = headers.getall("Content-Type", [""]), headers.getall("Content-Length", ["0"])
    if len(types) > 1 or len(lengths) > 1 or any(name in headers for name in _NOT_PLAIN):
        return None
    found = _CONTENT_TYPE.fullmatch(types[0])
    if found is None or _LENGTH.fullmatch(lengths[0]) is None:
        return None
    return found[1].lower(), int(lengths[0])


def _answer(status: str, error: str, headers: str = "") -> bytes:
    body = json.dumps({"error": error})
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"{headers}Connection: close\r\n\r\n{body}"
    ).encode()
