"""Rate limits for unauthenticated clients: one limit per address, and one shared by all of them.

Refusing a request with an HTTP response costs the gateway as much as serving it, and more than it costs the sender. It
is cheaper to close a connection when it opens; then flooding costs the sender more than the gateway. After one
successful authentication, by a carrier or a user, an address is exempt for a day: carriers send all their customers'
calls from the same addresses, and one customer must not block the calls of another.

Authentication does not exempt an address from the flood limit. A socket that floods costs the gateway more than the
sender until it is closed. After several such sockets in a row the address is blocked for a while. This cannot block a
carrier: carriers send in real time, and a single normal call resets the count.
"""

import logging
import time
from collections.abc import Callable
from ipaddress import IPv6Address

from cachetools import LRUCache, TTLCache

from core.settings import GatewaySettings
from gateway.carriers.common.auth import Networks, address_of

logger = logging.getLogger(__name__)

WINDOW_S = 10.0
"""Time window of the request limits."""

MAX_FLOODS = 3
"""Flooding sockets in a row after which their address is blocked."""

FLOOD_PAUSE_S = 60.0
"""Duration of the block. Floods further apart than this do not count as a row."""

_AUTHENTICATED_S = 86_400.0
_BYTES_PER_REQUEST = 16 * 1024  # a body counts as one more request per this number of bytes
_MAX_CLIENTS = 10_000  # entries in each table, which is a few megabytes


class ClientLimiter:
    """Counts requests and floods per client. A client is an IPv4 address or an IPv6 network of 64 bits."""

    def __init__(self, limits: GatewaySettings, now_s: Callable[[], float] = time.monotonic) -> None:
        """now_s: clock, monotonic seconds."""
        self._client_limit = limits.max_stranger_requests
        self._shared_limit = limits.max_unproven_requests
        self._client_limit_error = (
            f"more than {self._client_limit} requests in {WINDOW_S:g} s from an unauthenticated address: "
            "AUDIOTEXT_GATEWAY__MAX_STRANGER_REQUESTS"
        )
        self._shared_limit_error = (
            f"more than {self._shared_limit} requests in {WINDOW_S:g} s from all unauthenticated addresses: "
            "AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS"
        )
        self._blocked_error = (
            f"{MAX_FLOODS} sockets of this address in a row sent far too much data: blocked for {FLOOD_PAUSE_S:g} s"
        )
        self._now_s = now_s
        # Floods in a row by client, and the clients that have authenticated.
        self._floods: TTLCache[str, int] = TTLCache(_MAX_CLIENTS, FLOOD_PAUSE_S, timer=now_s)
        self._authenticated: TTLCache[str, bool] = TTLCache(_MAX_CLIENTS, _AUTHENTICATED_S, timer=now_s)
        # The rest counts within the current window.
        self._window_start_s = float("-inf")
        self._requests: LRUCache[str, int] = LRUCache(_MAX_CLIENTS)  # by client
        self._shared_requests: dict[str, int] = {}  # client → its requests counted against the shared limit
        self._shared_total = 0
        self._unlimited = Networks((*limits.unlimited_peers, *limits.trusted_proxies))

    def limit_for(self, peer: str, *, shared: bool = True) -> str:
        """Returns the error message of the limit that the next request of this address exceeds, or "".

        shared: False exempts the request from the shared limit. Carriers' requests are exempt, because other clients
        must not be able to block calls.
        """
        if self.is_blocked(peer):
            return self._blocked_error
        if self.is_exempt(peer):
            return ""
        self._roll_window()
        if self._requests.get(_client_key(peer), 0) >= self._client_limit:
            return self._client_limit_error
        return self._shared_limit_error if shared and self._shared_total >= self._shared_limit else ""

    def admit(self, peer: str, body_bytes: int = 0, *, shared: bool = True) -> str:
        """Counts a request of this address and returns the exceeded limit as `limit_for` does.

        body_bytes: a large body counts as several requests, because reading it costs as much.
        """
        limit = self.limit_for(peer, shared=shared)
        if not self.is_exempt(peer):
            requests = 1 + body_bytes // _BYTES_PER_REQUEST
            client = _client_key(peer)
            self._requests[client] = self._requests.get(client, 0) + requests
            if shared and not limit:
                self._shared_requests[client] = self._shared_requests.get(client, 0) + requests
                self._shared_total += requests
        return limit

    def record_authenticated(self, peer: str) -> None:
        """Exempts the address and removes its requests from the shared count."""
        client = _client_key(peer)
        self._authenticated[client] = True
        self._requests.pop(client, None)
        self._shared_total -= self._shared_requests.pop(client, 0)

    def record_flood(self, peer: str) -> None:
        """Counts a socket of this address that was closed for flooding."""
        if self.is_unlimited(peer):
            return
        client = _client_key(peer)
        self._floods[client] = self._floods.get(client, 0) + 1
        if self.is_blocked(peer):
            self._authenticated.pop(client, None)
            logger.warning("%s: %s", client, self._blocked_error)

    def reset_floods(self, peer: str) -> None:
        """Resets the count of floods after a normal stream of this address."""
        if not self.is_blocked(peer):
            self._floods.pop(_client_key(peer), None)

    def is_blocked(self, peer: str) -> bool:
        """Returns True if this address is blocked because of its floods."""
        if not self._floods:  # the usual case
            return False
        return self._floods.get(_client_key(peer), 0) >= MAX_FLOODS

    def is_exempt(self, peer: str) -> bool:
        """Returns True if no request limit applies: the address has authenticated, or the settings exempt it."""
        return _client_key(peer) in self._authenticated or self.is_unlimited(peer)

    def is_unlimited(self, peer: str) -> bool:
        """Returns True if the settings exempt this address from all limits."""
        return peer in self._unlimited

    def _roll_window(self) -> None:
        """Begins a new window if the last one is over."""
        now_s = self._now_s()
        if now_s - self._window_start_s >= WINDOW_S:
            self._window_start_s = now_s
            self._requests.clear()
            self._shared_requests, self._shared_total = {}, 0


def _client_key(peer: str) -> str:
    """Returns the address, or for IPv6 its network of 64 bits, because one customer owns such a network."""
    if ":" not in peer:
        return peer
    address = address_of(peer)
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> 64 << 64))
    return peer
