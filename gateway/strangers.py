"""Addresses that have proved nothing get a few requests; then their connections are closed before a word is read.

A refusal costs as much as any request, more than asking costs who asks. A connection that is closed when it comes
costs less, so whoever floods pays more than the gateway. One proof, a carrier's or a user's, and an address is no
stranger for a day: carriers share theirs, and nobody's calls may suffer from what another customer of his carrier does.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from audiotext.settings import GatewaySettings
from gateway.access import from_network

WINDOW_S = 10.0
"""What the limit of requests is for."""

_KNOWN_S = 86_400.0
_MOST = 10_000  # addresses remembered of either kind: a few megabytes


class Strangers:
    """Who has proved something and who has not. now_s: monotonic seconds."""

    def __init__(self, limits: GatewaySettings, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limit = limits.max_stranger_requests
        self._now_s = now_s
        # By address, the oldest first, both.
        self._known: dict[str, float] = {}  # when it proved something
        self._asked: dict[str, tuple[float, int]] = {}  # when its window began, and its requests since
        networks = (*limits.unlimited_peers, *limits.trusted_proxies)
        self._unlimited = lru_cache(_MOST)(lambda peer: from_network(peer, networks))

    def asks(self, peer: str) -> bool:
        """Counts a request of this address. False: it is one too many."""
        if self._is_known(peer):
            return True
        who, now = _who(peer), self._now_s()
        began, requests = self._asked.pop(who, (now, 0))
        if now - began >= WINDOW_S:
            began, requests = now, 0
        self._asked[who] = (began, requests + 1)
        if len(self._asked) > _MOST:
            del self._asked[next(iter(self._asked))]
        return requests < self._limit

    def has_asked_enough(self, peer: str) -> bool:
        """Whether the next request of this address would be one too many."""
        if self._is_known(peer):
            return False
        began, requests = self._asked.get(_who(peer), (0.0, 0))
        return requests >= self._limit and self._now_s() - began < WINDOW_S

    def proved(self, peer: str) -> None:
        """This address is no stranger."""
        who = _who(peer)
        self._known.pop(who, None)
        self._known[who] = self._now_s()
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def _is_known(self, peer: str) -> bool:
        proved = self._known.get(_who(peer))
        return (proved is not None and self._now_s() - proved < _KNOWN_S) or self._unlimited(peer)


@lru_cache(_MOST)
def _who(peer: str) -> str:
    """An address; of IPv6 its network of 64 bits, which is what one customer has."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return peer
