"""Who may come in, where a carrier signs nothing or little. Pure; not configured is denied."""

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import AF_INET, inet_pton
from typing import Protocol, TypeVar

from pydantic import SecretStr

from gateway.carriers.base import Authorization, IncomingRequest, UnauthorizedError

Network = IPv4Network | IPv6Network


class _Account(Protocol):
    @property
    def tenant(self) -> str: ...


class NetworkCredentials(_Account, Protocol):
    """The settings of a carrier that signs nothing."""

    @property
    def username(self) -> str | None: ...
    @property
    def password(self) -> SecretStr | None: ...
    @property
    def allowed_peers(self) -> tuple[Network, ...]: ...


A = TypeVar("A", bound=_Account)


def authorize(default: A, others: Mapping[str, A], require: Callable[[A], None]) -> Authorization:
    """What the first account grants whose proof the request has; `require` raises UnauthorizedError if not."""
    refusal = UnauthorizedError("no account is configured")
    for account_id, account in {"": default, **others}.items():
        try:
            require(account)
        except UnauthorizedError as error:
            refusal = error
        else:
            return Authorization(account.tenant, account_id)
    raise refusal


def require_bearer(proof: IncomingRequest, token: SecretStr | None, setting: str) -> None:
    """Passes `Authorization: Bearer <token>`. setting: its name, for the log. Raises UnauthorizedError."""
    if token is None or not token.get_secret_value():
        raise UnauthorizedError(f"no token is configured: set {setting}")
    if not _same(credentials(proof, "bearer"), token.get_secret_value()):
        raise UnauthorizedError(f"no bearer token, or not that of {setting}")


def require_credentials(proof: IncomingRequest, doors: NetworkCredentials, section: str) -> None:
    """Passes a request with the HTTP Basic credentials, from one of the networks: whatever is set, both if both are.

    section: the settings' name, for the log. Raises UnauthorizedError.
    """
    if doors.password is None and not doors.allowed_peers:
        raise UnauthorizedError(f"nothing is configured that proves it: set {section}__PASSWORD or __ALLOWED_PEERS")
    require_peer(proof, doors, section)
    if doors.password is not None:
        password = doors.password.get_secret_value()
        if not password or not _same(_basic(proof), f"{doors.username or ''}:{password}"):
            raise UnauthorizedError(f"no Basic credentials, or not those of {section}__USERNAME and __PASSWORD")


def require_peer(proof: IncomingRequest, doors: NetworkCredentials, section: str) -> None:
    """Passes a request from one of the networks, or any if none is configured. Raises UnauthorizedError."""
    if doors.allowed_peers and not from_network(proof.peer, doors.allowed_peers):
        raise UnauthorizedError(f"{proof.peer or 'an unknown address'} is not in {section}__ALLOWED_PEERS")


def deny(carrier: str) -> Authorization:
    """For a carrier whose requests nothing proves. Raises UnauthorizedError."""
    raise UnauthorizedError(f"nothing is configured that proves a request to come from {carrier}")


def credentials(proof: IncomingRequest, scheme: str) -> str:
    """What the Authorization header says in this scheme (lower case), "" if it is of another or none."""
    told, _, rest = proof.headers.get("Authorization", "").partition(" ")
    return rest.strip() if told.lower() == scheme else ""


def basic_password(proof: IncomingRequest) -> str:
    """The password of HTTP Basic credentials, "" without."""
    return _basic(proof).partition(":")[2]


def without_query(url: str) -> str:
    """A URL for the log: a query string may hold a token."""
    return url.partition("?")[0]


def from_network(peer: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks. What is no address is in none."""
    address = address_of(peer)
    return address is not None and any(address in network for network in networks)


class Networks:
    """Networks of which it is asked again and again whether they hold an address: `from_network`, several times faster
    for IPv4 as a socket shows it."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._ipv4 = tuple(
            (int(network.netmask), int(network.network_address))
            for network in networks
            if isinstance(network, IPv4Network)
        )

    def __contains__(self, peer: str) -> bool:
        try:
            number = int.from_bytes(inet_pton(AF_INET, peer))
        except (OSError, ValueError):
            return from_network(peer, self._networks)
        return any(number & mask == base for mask, base in self._ipv4)


@lru_cache(10_000)
def address_of(peer: str) -> IPv4Address | IPv6Address | None:
    """A connection's other end as an address; None if it is none."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    # A socket for both families shows IPv4 as ::ffff:a.b.c.d.
    return getattr(address, "ipv4_mapped", None) or address


def client_address(remote: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Who asks: the connection's other end or, as far as proxies are trusted, whom those name.

    forwarded_for: the header X-Forwarded-For; each proxy appends whom it was asked by, so it is read from the right.
    """
    address = remote
    for named in reversed([one.strip() for one in forwarded_for.split(",") if one.strip()]):
        if not from_network(address, trusted):
            break
        address = named
    return address


def _basic(proof: IncomingRequest) -> str:
    try:
        return base64.b64decode(credentials(proof, "basic"), validate=True).decode()
    except ValueError:
        return ""


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), secret.encode())
