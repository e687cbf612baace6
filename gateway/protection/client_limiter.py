"""Addresses that have proved nothing get a few requests, each for itself and all together; then they are refused.

A refusal by HTTP's rules costs as much as any request, more than asking costs who asks. A connection that is closed
when it comes, or by its first octets, costs less, so whoever floods pays more than the gateway. One proof, a carrier's
or a user's, and an address is no stranger for a day: carriers share theirs, and nobody's calls may suffer from what
another customer of his carrier does.

A proof does not help whose sockets are cut off for what they send: a socket costs us more, until it is, than whoever
floods it. Several in a row, and the address is not listened to for a while. Carriers send in real time, and one call
that does begins the row anew, so this is for no carrier's address.
"""

import logging
import time
from collections.abc import Callable
from ipaddress import IPv6Address

from core.settings import GatewaySettings
from gateway.carriers.common.auth import Networks, address_of

log = logging.getLogger(__name__)

WINDOW_S = 10.0
"""What the limits of requests are for."""

MOST_FLOODS = 3
"""Sockets in a row that are cut off for what they send, until their address is not listened to."""

FLOOD_PAUSE_S = 60.0
"""For how long it is not; floods that are further apart are in no row."""

_KNOWN_S = 86_400.0
_LARGE = 16 * 1024  # octets of a body
_MOST = 10_000  # addresses remembered of each kind: a few megabytes


class ClientLimiter:
    """Who has proved something and who has not. now_s: monotonic seconds."""

    def __init__(self, limits: GatewaySettings, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limit = limits.max_stranger_requests
        self._limit_of_all = limits.max_unproven_requests
        words = "more than {} requests in {:g} s from {} proved nothing: AUDIOTEXT_GATEWAY__{}".format
        self._too_many = words(self._limit, WINDOW_S, "an address that has", "MAX_STRANGER_REQUESTS")
        self._crowd = words(self._limit_of_all, WINDOW_S, "addresses that have", "MAX_UNPROVEN_REQUESTS")
        self._floods_in_a_row = (
            f"{MOST_FLOODS} sockets of this address in a row sent far too much: not listened to for {FLOOD_PAUSE_S:g} s"
        )
        self._now_s = now_s
        self._floods: dict[str, tuple[int, float]] = {}  # by address, in a row, and when the last was
        self._known: dict[str, float] = {}  # when an address proved something, the oldest first
        self._began_s = float("-inf")  # the window that the rest is about
        self._asked: dict[str, int] = {}  # requests by address, the one that asked last at the end
        self._listened: dict[str, int] = {}  # those of them that were listened to
        self._of_all = 0
        self._unlimited = Networks((*limits.unlimited_peers, *limits.trusted_proxies))

    def limit_for(self, peer: str, *, in_crowd: bool = True) -> str:
        """Which limit the next request of this address is beyond, in words for who asks, or "".

        in_crowd: whether the limit of all strangers counts; nobody's calls may be refused for what others do.
        """
        if self.is_blocked(peer):
            return self._floods_in_a_row
        if self.is_known(peer):
            return ""
        self._turn()
        if self._asked.get(_who(peer), 0) >= self._limit:
            return self._too_many
        return self._crowd if in_crowd and self._of_all >= self._limit_of_all else ""

    def admit(self, peer: str, octets: int = 0, *, in_crowd: bool = True) -> str:
        """Counts a request of this address; see `limit_for`.

        octets: of its body; a large one counts as several, for reading it costs us as much.
        """
        limit = self.limit_for(peer, in_crowd=in_crowd)
        if not self.is_known(peer):
            requests = 1 + octets // _LARGE
            who = self._count(peer, requests)
            if in_crowd and not limit:
                self._listened[who] = self._listened.get(who, 0) + requests
                self._of_all += requests
        return limit

    def refused(self, peer: str) -> None:
        """Counts a request that was refused by its first octets. That costs little, so it counts for the address alone
        and takes nothing from the others."""
        if not self.is_known(peer):
            self._count(peer, 1)

    def authenticated(self, peer: str) -> None:
        """This address is no stranger, and what it asked for takes nothing from the others."""
        who = _who(peer)
        self._known.pop(who, None)
        self._known[who] = self._now_s()
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
        self._asked.pop(who, None)
        self._of_all -= self._listened.pop(who, 0)

    def flooded(self, peer: str) -> None:
        """A socket of this address was cut off for what it sent."""
        if peer in self._unlimited:
            return
        who, now_s = _who(peer), self._now_s()
        floods, last_s = self._floods.pop(who, (0, now_s))
        self._floods[who] = (floods + 1 if now_s - last_s < FLOOD_PAUSE_S else 1, now_s)
        if len(self._floods) > _MOST:
            del self._floods[next(iter(self._floods))]
        if self.is_blocked(peer):
            self._known.pop(who, None)
            log.warning("%s: %s", who, self._floods_in_a_row)

    def kept_pace(self, peer: str) -> None:
        """A stream of this address has been what a call is: its row of floods is over."""
        if not self.is_blocked(peer):
            self._floods.pop(_who(peer), None)

    def is_blocked(self, peer: str) -> bool:
        """Whether this address is not listened to because of its floods."""
        if not self._floods:  # as nearly always
            return False
        floods, last_s = self._floods.get(_who(peer), (0, 0.0))
        return floods >= MOST_FLOODS and self._now_s() - last_s < FLOOD_PAUSE_S

    def is_known(self, peer: str) -> bool:
        """Whether this address has proved something, or needs not."""
        proved = self._known.get(_who(peer))
        return (proved is not None and self._now_s() - proved < _KNOWN_S) or peer in self._unlimited

    def _count(self, peer: str, requests: int) -> str:
        """Returns whose they are."""
        self._turn()
        who = _who(peer)
        self._asked[who] = self._asked.pop(who, 0) + requests
        if len(self._asked) > _MOST:
            del self._asked[next(iter(self._asked))]
        return who

    def _turn(self) -> None:
        """Begins a new window if the last one is over."""
        now_s = self._now_s()
        if now_s - self._began_s >= WINDOW_S:
            self._began_s = now_s
            self._asked, self._listened, self._of_all = {}, {}, 0


def _who(peer: str) -> str:
    """An address; of IPv6 its network of 64 bits, which is what one customer has."""
    if ":" not in peer:
        return peer
    address = address_of(peer)
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> 64 << 64))
    return peer
