"""Who has asked enough, on a clock of the test's own."""

from dataclasses import dataclass

import pytest

from core.settings import GatewaySettings
from gateway.protection.client_limiter import FLOOD_PAUSE_S, MOST_FLOODS, ClientLimiter

FLOOD, CARRIER, NOBODY = "203.0.113.66", "198.51.100.7", "192.0.2.250"
DAY_S = 86_400


@dataclass
class Clock:
    """Stands still until told otherwise."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def strangers(clock: Clock, **limits: object) -> ClientLimiter:
    """With a limit of three requests, unless told otherwise."""
    return ClientLimiter(GatewaySettings.model_validate({"max_stranger_requests": 3} | limits), clock)


def listened(door: ClientLimiter, peer: str) -> bool:
    """Whether a request of this address is heard."""
    return door.admit(peer) == ""


def test_so_many_and_no_more_until_the_time_is_over() -> None:
    """Asks four times within 10 s: the fourth is one too many, and the next connection need not be read. 10 s after
    the first all begins anew; what was asked meanwhile does not prolong it, so nobody is shut out for good."""
    clock = Clock()
    door = strangers(clock)
    assert [listened(door, FLOOD) for _ in range(4)] == [True, True, True, False]
    clock.now_s += 9.9
    assert door.limit_for(FLOOD, in_crowd=False)
    assert not listened(door, FLOOD)
    assert not door.limit_for(CARRIER, in_crowd=False)
    clock.now_s += 0.1
    assert not door.limit_for(FLOOD, in_crowd=False)
    assert listened(door, FLOOD)


def test_one_proof_and_the_limit_is_gone_for_a_day() -> None:
    """A carrier's address has brought a signed stream, and then a thousand forged requests, since another customer of
    that carrier means us ill: our calls from there are still taken. Who proves nothing for a day is a stranger again.
    Otherwise an attacker could have us refuse the calls of the carrier he shares with us."""
    clock = Clock()
    door = strangers(clock)
    assert [listened(door, CARRIER) for _ in range(4)][-1] is False
    door.authenticated(CARRIER)
    assert all(listened(door, CARRIER) for _ in range(1000))
    assert not door.limit_for(CARRIER, in_crowd=False)
    clock.now_s += DAY_S - 1
    door.authenticated(CARRIER)
    clock.now_s += DAY_S - 1
    assert all(listened(door, CARRIER) for _ in range(10))
    clock.now_s += 1
    assert [listened(door, CARRIER) for _ in range(4)][-1] is False


def test_all_together_have_a_limit_as_well() -> None:
    """A thousand addresses ask once each, and five are listened to: the others would have us work for nobody. A known
    address is heard meanwhile; and whoever proves something takes nothing from the others, so carriers that bring many
    calls at once from everywhere never fill it."""
    clock = Clock()
    door = strangers(clock, max_unproven_requests=5)
    door.authenticated(CARRIER)
    addresses = [f"203.0.113.{number}" for number in range(20)]
    assert sum(listened(door, address) for address in addresses) == 5
    assert "AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS" in door.limit_for(NOBODY)
    assert "AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS" in door.admit(FLOOD)
    assert all(listened(door, CARRIER) for _ in range(100))
    assert door.admit("192.0.2.1", in_crowd=False) == "", "a call was refused for what others did"
    clock.now_s += 10
    assert door.limit_for(NOBODY) == ""
    for number in range(1_000):
        assert listened(door, f"198.18.{number // 250}.{number % 250}")
        door.authenticated(f"198.18.{number // 250}.{number % 250}")
    assert door.limit_for(NOBODY) == ""


def test_a_large_request_counts_as_several() -> None:
    """Asks with bodies of 60 kB where ten requests are taken: the fourth is one too many. Reading one costs us more
    than it costs to send it."""
    door = strangers(Clock(), max_stranger_requests=10)
    assert [door.admit(FLOOD, 60_000) == "" for _ in range(4)] == [True, True, True, False]
    assert door.limit_for(FLOOD, in_crowd=False)


def test_what_was_refused_at_once_takes_nothing_from_others() -> None:
    """An address is refused by its first octets again and again: that counts for itself, and for nobody else."""
    door = strangers(Clock(), max_unproven_requests=5)
    for _ in range(100):
        door.refused(FLOOD)
    assert door.limit_for(FLOOD, in_crowd=False)
    assert door.limit_for(NOBODY) == ""
    assert listened(door, CARRIER)


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:192.168.1.1", "100.64.0.1"])
def test_what_may_be_everybody_is_not_limited(peer: str) -> None:
    """Private addresses, which proxies, tunnels and load balancers have, ask a thousand times, and so do proxies that
    are named: all carriers may come through one of them."""
    door = strangers(Clock(), trusted_proxies=["203.0.113.0/24"])
    for address in (peer, FLOOD):
        assert all(listened(door, address) for _ in range(1000))
        assert not door.limit_for(address, in_crowd=False)


def test_a_network_of_ipv6_is_one_address() -> None:
    """Asks from four addresses of one network of 64 bits: its owner has 2^64 of them, and one allowance. IPv4 inside
    of IPv6 is not one network."""
    door = strangers(Clock())
    asked = [listened(door, f"2001:db8:1:2::{number:x}") for number in range(4)]
    assert asked == [True, True, True, False]
    assert listened(door, "2001:db8:1:3::1")
    assert all(listened(door, f"::ffff:203.0.113.{number}") for number in range(10))


def test_memory_is_bounded() -> None:
    """Asks from, and proves for, 30,000 addresses: 10,000 of each kind are remembered, the last ones."""
    door = strangers(Clock(), max_stranger_requests=1)
    addresses = [f"198.18.{number // 256}.{number % 256}" for number in range(30_000)]
    for address in addresses:
        listened(door, address)
    assert sum(bool(door.limit_for(address, in_crowd=False)) for address in addresses) == 10_000
    for address in addresses:
        door.authenticated(address)
    assert not any(door.limit_for(address, in_crowd=False) for address in addresses)
    assert [listened(door, addresses[-1]) for _ in range(3)] == [True] * 3


def test_what_is_no_address_is_one_stranger() -> None:
    """A connection that does not tell where it comes from is limited like any other."""
    door = strangers(Clock())
    assert [listened(door, "") for _ in range(4)] == [True, True, True, False]


def test_sockets_that_flood_in_a_row_shut_their_address_out() -> None:
    """An address that has proved something floods three sockets in a row: it is not listened to for a minute, whatever
    it proves meanwhile on those it still has; then it is a stranger. Each such socket costs us more than who floods it,
    so coming again must not."""
    clock = Clock()
    door = strangers(clock)
    door.authenticated(FLOOD)
    for _ in range(MOST_FLOODS):
        assert listened(door, FLOOD)
        door.flooded(FLOOD)
    assert "not listened to for 60 s" in door.limit_for(FLOOD, in_crowd=False)
    door.authenticated(FLOOD)
    door.kept_pace(FLOOD)
    assert not listened(door, FLOOD)
    assert listened(door, CARRIER)
    clock.now_s += FLOOD_PAUSE_S - 1
    assert not listened(door, FLOOD)
    clock.now_s += 1
    assert listened(door, FLOOD)


def test_an_address_that_was_shut_out_has_to_prove_itself_again() -> None:
    """A minute after its floods an address asks: no more than any stranger may."""
    clock = Clock()
    door = strangers(clock)
    door.authenticated(FLOOD)
    for _ in range(MOST_FLOODS):
        door.flooded(FLOOD)
    clock.now_s += FLOOD_PAUSE_S
    assert not door.is_known(FLOOD)
    assert [listened(door, FLOOD) for _ in range(4)] == [True, True, True, False]


def test_a_carrier_whose_calls_are_calls_is_never_shut_out() -> None:
    """Streams of a carrier's address are cut off again and again, two in a row at most, since real calls come between;
    another has two and, a minute later, one more. Both are still listened to: other customers' calls come from there,
    too."""
    clock = Clock()
    door = strangers(clock)
    door.authenticated(CARRIER)
    for _ in range(20):
        for _ in range(MOST_FLOODS - 1):
            door.flooded(CARRIER)
        door.kept_pace(CARRIER)
    assert listened(door, CARRIER)
    assert door.is_known(CARRIER)
    for _ in range(MOST_FLOODS - 1):
        door.flooded(FLOOD)
    clock.now_s += FLOOD_PAUSE_S
    door.flooded(FLOOD)
    assert listened(door, FLOOD)


def test_floods_are_no_matter_where_everybody_may_be() -> None:
    """Floods from a private address, which may be a proxy with all carriers behind it: it is still listened to."""
    door = strangers(Clock())
    for _ in range(10):
        door.flooded("10.1.2.3")
    assert listened(door, "10.1.2.3")


def test_floods_of_many_addresses_take_a_bounded_memory() -> None:
    """30,000 addresses flood: the last 10,000 are remembered."""
    door = strangers(Clock())
    addresses = [f"198.18.{number // 256}.{number % 256}" for number in range(30_000)]
    for address in addresses:
        for _ in range(MOST_FLOODS):
            door.flooded(address)
    assert sum(door.is_blocked(address) for address in addresses) == 10_000
