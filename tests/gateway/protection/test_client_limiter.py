"""Tests of the rate limits for unauthenticated clients, on the test's own clock."""

from dataclasses import dataclass

import pytest

from core.settings import GatewaySettings
from gateway.protection.client_limiter import FLOOD_PAUSE_S, MAX_FLOODS, ClientLimiter

FLOOD, CARRIER, NOBODY = "203.0.113.66", "198.51.100.7", "192.0.2.250"
DAY_S = 86_400


@dataclass
class Clock:
    """Clock that moves only when the test sets it."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def limiter_on(clock: Clock, **limits: object) -> ClientLimiter:
    """Returns a limiter with a limit of three requests, unless the test gives another one."""
    return ClientLimiter(GatewaySettings.model_validate({"max_stranger_requests": 3} | limits), clock)


def admitted(limiter: ClientLimiter, peer: str) -> bool:
    """Returns True if a request of this address is admitted."""
    return limiter.admit(peer) == ""


def test_client_limit_ends_with_its_window() -> None:
    """Sends four requests within 10 s, then more after the window.

    The fourth must be rejected, as must new connections. The limit must end 10 s after the first request, also if the
    client continues to send; otherwise a client could be blocked forever.
    """
    clock = Clock()
    limiter = limiter_on(clock)
    assert [admitted(limiter, FLOOD) for _ in range(4)] == [True, True, True, False]
    clock.now_s += 9.9
    assert limiter.limit_for(FLOOD, shared=False)
    assert not admitted(limiter, FLOOD)
    assert not limiter.limit_for(CARRIER, shared=False)
    clock.now_s += 0.1
    assert not limiter.limit_for(FLOOD, shared=False)
    assert admitted(limiter, FLOOD)


def test_authentication_exempts_an_address_for_a_day() -> None:
    """Authenticates an address, then sends a thousand requests from it.

    All must be admitted for a day. A failure means that an attacker who is another customer of the same carrier can
    block our calls.
    """
    clock = Clock()
    limiter = limiter_on(clock)
    assert [admitted(limiter, CARRIER) for _ in range(4)][-1] is False
    limiter.record_authenticated(CARRIER)
    assert all(admitted(limiter, CARRIER) for _ in range(1000))
    assert not limiter.limit_for(CARRIER, shared=False)
    clock.now_s += DAY_S - 1
    limiter.record_authenticated(CARRIER)
    clock.now_s += DAY_S - 1
    assert all(admitted(limiter, CARRIER) for _ in range(10))
    clock.now_s += 1
    assert [admitted(limiter, CARRIER) for _ in range(4)][-1] is False


def test_shared_limit_applies_to_all_unauthenticated_clients() -> None:
    """Sends one request from each of 20 addresses with a shared limit of five: five are admitted.

    An authenticated address and carriers' requests must be exempt. Requests of an address that then authenticates must
    not count, so that a carrier with many addresses never reaches the limit.
    """
    clock = Clock()
    limiter = limiter_on(clock, max_unproven_requests=5)
    limiter.record_authenticated(CARRIER)
    addresses = [f"203.0.113.{number}" for number in range(20)]
    assert sum(admitted(limiter, address) for address in addresses) == 5
    assert "AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS" in limiter.limit_for(NOBODY)
    assert "AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS" in limiter.admit(FLOOD)
    assert all(admitted(limiter, CARRIER) for _ in range(100))
    assert limiter.admit("192.0.2.1", shared=False) == "", "a call was refused for what others did"
    clock.now_s += 10
    assert limiter.limit_for(NOBODY) == ""
    for number in range(1_000):
        assert admitted(limiter, f"198.18.{number // 250}.{number % 250}")
        limiter.record_authenticated(f"198.18.{number // 250}.{number % 250}")
    assert limiter.limit_for(NOBODY) == ""


def test_a_large_request_counts_as_several() -> None:
    """Sends bodies of 60 kB with a limit of ten requests: the fourth must be rejected.

    Reading a large body costs the gateway more than it costs the sender.
    """
    limiter = limiter_on(Clock(), max_stranger_requests=10)
    assert [limiter.admit(FLOOD, 60_000) == "" for _ in range(4)] == [True, True, True, False]
    assert limiter.limit_for(FLOOD, shared=False)


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:192.168.1.1", "100.64.0.1"])
def test_private_addresses_and_trusted_proxies_are_exempt(peer: str) -> None:
    """Sends a thousand requests from private addresses and from a trusted proxy: all must be admitted.

    All carriers may connect through one proxy, tunnel or load balancer.
    """
    limiter = limiter_on(Clock(), trusted_proxies=["203.0.113.0/24"])
    for address in (peer, FLOOD):
        assert all(admitted(limiter, address) for _ in range(1000))
        assert not limiter.limit_for(address, shared=False)


def test_an_ipv6_network_is_one_client() -> None:
    """Sends requests from four addresses of one IPv6 network of 64 bits: they must share one limit.

    The network's owner has 2^64 addresses. IPv4 addresses inside IPv6 must not share a limit.
    """
    limiter = limiter_on(Clock())
    results = [admitted(limiter, f"2001:db8:1:2::{number:x}") for number in range(4)]
    assert results == [True, True, True, False]
    assert admitted(limiter, "2001:db8:1:3::1")
    assert all(admitted(limiter, f"::ffff:203.0.113.{number}") for number in range(10))


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    """Sends requests from, and authenticates, 30,000 addresses: the last 10,000 of each must be stored."""
    limiter = limiter_on(Clock(), max_stranger_requests=1)
    addresses = [f"198.18.{number // 256}.{number % 256}" for number in range(30_000)]
    for address in addresses:
        admitted(limiter, address)
    assert sum(bool(limiter.limit_for(address, shared=False)) for address in addresses) == 10_000
    for address in addresses:
        limiter.record_authenticated(address)
    assert not any(limiter.limit_for(address, shared=False) for address in addresses)
    assert [admitted(limiter, addresses[-1]) for _ in range(3)] == [True] * 3


def test_missing_address_is_one_client() -> None:
    """Sends requests without an address: they must share one limit."""
    limiter = limiter_on(Clock())
    assert [admitted(limiter, "") for _ in range(4)] == [True, True, True, False]


def test_floods_in_a_row_block_the_address() -> None:
    """Records three floods in a row of an authenticated address.

    The address must be blocked for a minute, also if it authenticates meanwhile. A flooding socket costs the gateway
    more than the sender, so the sender must not be able to repeat it.
    """
    clock = Clock()
    limiter = limiter_on(clock)
    limiter.record_authenticated(FLOOD)
    for _ in range(MAX_FLOODS):
        assert admitted(limiter, FLOOD)
        limiter.record_flood(FLOOD)
    assert "blocked for 60 s" in limiter.limit_for(FLOOD, shared=False)
    limiter.record_authenticated(FLOOD)
    limiter.reset_floods(FLOOD)
    assert not admitted(limiter, FLOOD)
    assert admitted(limiter, CARRIER)
    clock.now_s += FLOOD_PAUSE_S - 1
    assert not admitted(limiter, FLOOD)
    clock.now_s += 1
    assert admitted(limiter, FLOOD)


def test_blocked_address_loses_its_exemption() -> None:
    """Waits until a block ends: the address must have the limits of an unauthenticated client."""
    clock = Clock()
    limiter = limiter_on(clock)
    limiter.record_authenticated(FLOOD)
    for _ in range(MAX_FLOODS):
        limiter.record_flood(FLOOD)
    clock.now_s += FLOOD_PAUSE_S
    assert not limiter.is_exempt(FLOOD)
    assert [admitted(limiter, FLOOD) for _ in range(4)] == [True, True, True, False]


def test_normal_calls_prevent_a_block() -> None:
    """Records floods with normal calls between them, and floods more than a minute apart: the address must stay open.

    Other customers' calls come from the same addresses of a carrier.
    """
    clock = Clock()
    limiter = limiter_on(clock)
    limiter.record_authenticated(CARRIER)
    for _ in range(20):
        for _ in range(MAX_FLOODS - 1):
            limiter.record_flood(CARRIER)
        limiter.reset_floods(CARRIER)
    assert admitted(limiter, CARRIER)
    assert limiter.is_exempt(CARRIER)
    for _ in range(MAX_FLOODS - 1):
        limiter.record_flood(FLOOD)
    clock.now_s += FLOOD_PAUSE_S
    limiter.record_flood(FLOOD)
    assert admitted(limiter, FLOOD)


def test_floods_do_not_block_private_addresses() -> None:
    """Records ten floods of a private address: it must not be blocked, because all carriers may use that proxy."""
    limiter = limiter_on(Clock())
    for _ in range(10):
        limiter.record_flood("10.1.2.3")
    assert admitted(limiter, "10.1.2.3")


@pytest.mark.slow
def test_memory_of_floods_is_bounded() -> None:
    """Records floods of 30,000 addresses: the last 10,000 must be stored."""
    limiter = limiter_on(Clock())
    addresses = [f"198.18.{number // 256}.{number % 256}" for number in range(30_000)]
    for address in addresses:
        for _ in range(MAX_FLOODS):
            limiter.record_flood(address)
    assert sum(limiter.is_blocked(address) for address in addresses) == 10_000
