"""Who has asked enough, on a clock of the test's own."""

from dataclasses import dataclass

import pytest

from audiotext.settings import GatewaySettings
from gateway.strangers import Strangers

FLOOD, CARRIER = "203.0.113.66", "198.51.100.7"
DAY_S = 86_400


@dataclass
class Clock:
    """Stands still until told otherwise."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def strangers(clock: Clock, **limits: object) -> Strangers:
    """With a limit of three requests, unless told otherwise."""
    return Strangers(GatewaySettings.model_validate({"max_stranger_requests": 3} | limits), clock)


def test_so_many_and_no_more_until_the_time_is_over() -> None:
    """Asks four times within 10 s: the fourth is one too many, and the next connection need not be read. 10 s after
    the first all begins anew; what was asked meanwhile does not prolong it, so nobody is shut out for good."""
    clock = Clock()
    door = strangers(clock)
    assert [door.asks(FLOOD) for _ in range(4)] == [True, True, True, False]
    clock.now_s += 9.9
    assert door.has_asked_enough(FLOOD)
    assert not door.asks(FLOOD)
    assert not door.has_asked_enough(CARRIER)
    clock.now_s += 0.1
    assert not door.has_asked_enough(FLOOD)
    assert door.asks(FLOOD)


def test_one_proof_and_the_limit_is_gone_for_a_day() -> None:
    """A carrier's address has brought a signed stream, and then a thousand forged requests, since another customer of
    that carrier means us ill: our calls from there are still taken. Who proves nothing for a day is a stranger again.
    Otherwise an attacker could have us refuse the calls of the carrier he shares with us."""
    clock = Clock()
    door = strangers(clock)
    assert [door.asks(CARRIER) for _ in range(4)][-1] is False
    door.proved(CARRIER)
    assert all(door.asks(CARRIER) for _ in range(1000))
    assert not door.has_asked_enough(CARRIER)
    clock.now_s += DAY_S - 1
    door.proved(CARRIER)
    clock.now_s += DAY_S - 1
    assert all(door.asks(CARRIER) for _ in range(10))
    clock.now_s += 1
    assert [door.asks(CARRIER) for _ in range(4)][-1] is False


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:192.168.1.1", "100.64.0.1"])
def test_what_may_be_everybody_is_not_limited(peer: str) -> None:
    """Private addresses, which proxies, tunnels and load balancers have, ask a thousand times, and so do proxies that
    are named: all carriers may come through one of them."""
    door = strangers(Clock(), trusted_proxies=["203.0.113.0/24"])
    for address in (peer, FLOOD):
        assert all(door.asks(address) for _ in range(1000))
        assert not door.has_asked_enough(address)


def test_a_network_of_ipv6_is_one_address() -> None:
    """Asks from four addresses of one network of 64 bits: its owner has 2^64 of them, and one allowance. IPv4 inside
    of IPv6 is not one network."""
    door = strangers(Clock())
    asked = [door.asks(f"2001:db8:1:2::{number:x}") for number in range(4)]
    assert asked == [True, True, True, False]
    assert door.asks("2001:db8:1:3::1")
    assert all(door.asks(f"::ffff:203.0.113.{number}") for number in range(10))


def test_memory_is_bounded() -> None:
    """Asks from, and proves for, 30,000 addresses: 10,000 of each kind are remembered, the last ones."""
    door = strangers(Clock(), max_stranger_requests=1)
    addresses = [f"198.18.{number // 256}.{number % 256}" for number in range(30_000)]
    for address in addresses:
        door.asks(address)
    assert sum(door.has_asked_enough(address) for address in addresses) == 10_000
    for address in addresses:
        door.proved(address)
    assert not any(door.has_asked_enough(address) for address in addresses)
    assert [door.asks(addresses[-1]) for _ in range(3)] == [True] * 3


def test_what_is_no_address_is_one_stranger() -> None:
    """A connection that does not tell where it comes from is limited like any other."""
    door = strangers(Clock())
    assert [door.asks("") for _ in range(4)] == [True, True, True, False]
