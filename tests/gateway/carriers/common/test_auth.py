"""Tests of tokens, passwords and addresses: valid ones are accepted, and all others are refused."""

import base64
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from core.settings import ExotelSettings, Settings, SignalWireSettings, TelnyxSettings
from gateway.carriers import load_carriers
from gateway.carriers.base import IncomingRequest, UnauthorizedError
from gateway.carriers.common.auth import Networks, client_address, from_network, require_bearer, require_credentials


def proof(header: str | None) -> IncomingRequest:
    return IncomingRequest("/v1/media/telnyx", {} if header is None else {"Authorization": header})


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "])
def test_the_token_is_accepted(header: str) -> None:
    """Sends the token: accepted, whatever the case of the scheme (RFC 7235)."""
    require_bearer(proof(header), SecretStr("s3cret"), "SETTING")


@pytest.mark.parametrize(
    "header", [None, "", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Basic s3cret", "Bearer \udcff"]
)
def test_other_credentials_are_refused(header: str | None) -> None:
    """Sends nothing, half of the token, another scheme, and bytes that are not text: refused without a crash."""
    with pytest.raises(UnauthorizedError):
        require_bearer(proof(header), SecretStr("s3cret"), "SETTING")


@pytest.mark.parametrize("token", [None, SecretStr("")])
def test_a_missing_setting_denies_access(token: SecretStr | None) -> None:
    """Sends the empty token to a gateway without one: refused, and the text for the log names the setting."""
    with pytest.raises(UnauthorizedError, match="SETTING"):
        require_bearer(proof("Bearer "), token, "SETTING")


def test_each_carrier_has_its_own_token() -> None:
    """Configures two carriers: each accepts only its own token."""
    settings = Settings(
        telnyx=TelnyxSettings(stream_token=SecretStr("one")),
        signalwire=SignalWireSettings(stream_token=SecretStr("two")),
    )
    carriers = load_carriers()
    carriers["telnyx"].authorize_socket(proof("Bearer one"), settings)
    carriers["signalwire"].authorize_socket(proof("Bearer two"), settings)
    with pytest.raises(UnauthorizedError):
        carriers["telnyx"].authorize_socket(proof("Bearer two"), settings)


@pytest.mark.parametrize("name", ["plivo", "exotel", "vonage", "jambonz", "audiosocket"])
def test_requests_without_configuration_are_denied(name: str) -> None:
    """Requests a socket and a webhook of carriers without configuration: always refused."""
    carrier = load_carriers()[name]
    for authorize in (carrier.authorize_socket, carrier.authorize_webhook):
        with pytest.raises(UnauthorizedError):
            authorize(proof("Bearer anything"), Settings())


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


NETWORK = ip_network("10.0.0.0/24")
PASSWORD = ExotelSettings(username="u", password=SecretStr("p"))
PEERS = ExotelSettings(allowed_peers=(NETWORK,))
BOTH = ExotelSettings(username="u", password=SecretStr("p"), allowed_peers=(NETWORK,))


@pytest.mark.parametrize(
    ("doors", "headers", "peer", "opens"),
    [
        (PASSWORD, basic("u", "p"), "203.0.113.9", True),
        (PASSWORD, basic("u", "q"), "", False),
        (PASSWORD, basic("", "p"), "", False),
        (PASSWORD, {"Authorization": "Basic ?"}, "", False),
        (PASSWORD, {}, "10.0.0.5", False),
        (PEERS, {}, "10.0.0.5", True),
        (PEERS, {}, "::ffff:10.0.0.5", True),
        (PEERS, {}, "10.0.1.5", False),
        (PEERS, {}, "nonsense", False),
        (BOTH, basic("u", "p"), "10.0.0.5", True),
        (BOTH, basic("u", "p"), "10.0.1.5", False),
        (BOTH, {}, "10.0.0.5", False),
        (ExotelSettings(), basic("", ""), "127.0.0.1", False),
        (ExotelSettings(username="u", password=SecretStr("")), basic("u", ""), "", False),
    ],
)
def test_every_configured_proof_is_required(
    doors: ExotelSettings, headers: dict[str, str], peer: str, opens: bool
) -> None:
    """Sends a password, an allowed address, and both: accepted only if everything that is configured is valid."""
    asked = IncomingRequest("/v1/media/exotel", headers, peer=peer)
    if opens:
        require_credentials(asked, doors, "AUDIOTEXT_EXOTEL")
    else:
        with pytest.raises(UnauthorizedError, match="AUDIOTEXT_EXOTEL__"):
            require_credentials(asked, doors, "AUDIOTEXT_EXOTEL")


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        ("203.0.113.9", "10.0.0.7", "203.0.113.9"),  # an outsider's header is no proof of anything
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # what the outsider claims stands on the left
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_name_the_client(remote: str, forwarded: str, address: str) -> None:
    """Reads X-Forwarded-For: only trusted proxies may name the client's address.

    Otherwise every client could claim an allowed address.
    """
    assert client_address(remote, forwarded, (NETWORK,)) == address


_IPV4 = st.ip_addresses(v=4)
_PEERS = _IPV4.map(str) | st.ip_addresses(v=6).map(str) | _IPV4.map("::ffff:{}".format) | st.text(max_size=20)


@given(near=_IPV4, bits=st.integers(0, 32), offset=st.integers(-2, 2), peer=_PEERS)
def test_the_fast_lookup_of_an_address_is_equal(
    near: IPv4Address | IPv6Address, bits: int, offset: int, peer: str
) -> None:
    """Looks up addresses inside, at the borders of, and outside a network: equal to the standard library.

    Both families and invalid addresses are included. A difference would admit or limit a wrong address.
    """
    network = IPv4Network((int(near), bits), strict=False)
    networks = (network, ip_network("2001:db8::/32"))
    border = IPv4Address((int(network.broadcast_address) + offset) % 2**32)
    for one in (peer, str(near), str(border), "2001:db8::1", ""):
        assert (one in Networks(networks)) == from_network(one, networks)
