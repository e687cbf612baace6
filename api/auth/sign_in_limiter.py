"""Limit for failed sign-ins: wrong keys, cookies and links. Valid credentials are never limited.

Behind a proxy all clients may have one address. So the limit must not refuse a valid key: it only replaces the answer
to a wrong one, and bounds the queries that unknown keys cause.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from aiohttp import web
from cachetools import LRUCache

from api.errors import ApiError
from gateway.carriers.common.auth import client_address

logger = logging.getLogger(__name__)

_WINDOW_S = 60.0
_ALL_PEERS = 10  # all addresses together may fail this many times as often as one
_MAX_PEERS = 10_000


@dataclass(slots=True)
class _Bucket:
    """Token bucket: holds up to `size` tokens and is filled within `_WINDOW_S`."""

    size: float
    tokens: float
    filled_at_s: float

    def refill(self, now_s: float) -> None:
        """Adds the tokens of the time since the last refill."""
        rate = self.size / _WINDOW_S
        self.tokens = min(self.size, self.tokens + (now_s - self.filled_at_s) * rate)
        self.filled_at_s = now_s

    @property
    def wait_s(self) -> float:
        """Time until there is a token; 0 if there is one."""
        return max(0.0, (1.0 - self.tokens) * _WINDOW_S / self.size)


class SignInLimiter:
    """Counts failed sign-ins per address and in total, whatever network the address belongs to."""

    def __init__(
        self,
        per_minute: int,
        trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = (),
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """per_minute: failures of one address. now_s: clock, monotonic seconds."""
        self._per_minute = per_minute
        self._trusted_proxies = trusted_proxies
        self._now_s = now_s
        self._all = _Bucket(per_minute * _ALL_PEERS, per_minute * _ALL_PEERS, now_s())
        self._peers: LRUCache[str, _Bucket] = LRUCache(_MAX_PEERS)

    def wait_s(self, peer: str) -> float:
        """Returns the time until the address may fail again; 0 if it may fail now."""
        now_s, own = self._now_s(), self._peers.get(peer)
        for bucket in (self._all, own):
            if bucket is not None:
                bucket.refill(now_s)
        return max(self._all.wait_s, own.wait_s if own else 0.0)

    def fail(self, peer: str, credentials: str) -> ApiError | None:
        """Counts and logs a failed sign-in. Returns the error to answer instead, if there were too many.

        credentials: description without the secret.
        """
        wait_s = self.wait_s(peer)
        logger.warning("failed sign-in from %s with %s", peer or "an unknown address", credentials)
        if wait_s > 0:
            return ApiError(
                429,
                "too_many_requests",
                f"more than {self._per_minute} failed sign-ins per minute: AUDIOTEXT_API__FAILED_SIGN_INS",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )
        own = self._peers.setdefault(peer, _Bucket(self._per_minute, self._per_minute, self._now_s()))
        own.tokens -= 1
        self._all.tokens -= 1
        return None

    def peer_of(self, request: web.Request) -> str:
        """Returns the client's address. The gateway appends the address of its own client to X-Forwarded-For."""
        chain = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        peer = chain[-1].strip() or request.remote or ""
        return client_address(peer, ",".join(chain[:-1]), self._trusted_proxies)


SIGN_IN_LIMITER = web.AppKey("sign_in_limiter", SignInLimiter)
