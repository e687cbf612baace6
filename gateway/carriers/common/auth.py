"""Authentication of carriers that do not sign their requests. Pure functions; a missing setting denies access."""

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
    """Settings of a carrier that signs nothing: credentials, networks, or both."""

    @property
    def username(self) -> str | None:
        """User name of the HTTP Basic credentials."""

    @property
    def password(self) -> SecretStr | None:
        """Password of the HTTP Basic credentials."""

    @property
    def allowed_peers(self) -> tuple[Network, ...]:
        """Networks from which requests may come."""


A = TypeVar("A", bound=_Account)


def authorize(default: A, others: Mapping[str, A], require: Callable[[A], None]) -> Authorization:
    """Returns the authorization of the first account that `require` accepts. Raises UnauthorizedError."""
    refusal = UnauthorizedError("no account is configured")
    for account_id, account in {"": default, **others}.items():
        try:
            require(account)
        except UnauthorizedError as error:
            refusal = error
        else:
            return Authorization(account.tenant, account_id)
    raise refusal


def require_bearer(request: IncomingRequest, token: SecretStr | None, setting: str) -> None:
    """Requires `Authorization: Bearer <token>`. setting: its name, for the log. Raises UnauthorizedError."""
    if token is None or not token.get_secret_value():
        raise UnauthorizedError(f"no token is configured: set {setting}")
    if not _same(credentials(request, "bearer"), token.get_secret_value()):
        raise UnauthorizedError(f"the bearer token is missing or differs from {setting}")


def require_credentials(request: IncomingRequest, account: NetworkCredentials, section: str) -> None:
    """Requires the HTTP Basic credentials and one of the networks, or the one of the two that is configured.

    section: the settings' name, for the log. Raises UnauthorizedError.
    """
    if account.password is None and not account.allowed_peers:
        raise UnauthorizedError(f"no authentication is configured: set {section}__PASSWORD or {section}__ALLOWED_PEERS")
    require_peer(request, account, section)
    if account.password is not None:
        password = account.password.get_secret_value()
        if not password or not _same(_basic(request), f"{account.username or ''}:{password}"):
            raise UnauthorizedError(f"Basic credentials are missing or not those of {section}__USERNAME and __PASSWORD")


def require_peer(request: IncomingRequest, account: NetworkCredentials, section: str) -> None:
    """Requires an address in one of the networks, if any are configured. Raises UnauthorizedError."""
    if account.allowed_peers and not from_network(request.peer, account.allowed_peers):
        raise UnauthorizedError(f"{request.peer or 'an unknown address'} is not in {section}__ALLOWED_PEERS")


def deny(carrier: str) -> Authorization:
    """Raises UnauthorizedError, for a carrier whose requests cannot be authenticated."""
    raise UnauthorizedError(f"requests cannot be authenticated: {carrier}")


def credentials(request: IncomingRequest, scheme: str) -> str:
    """Returns the credentials of the Authorization header. "": it is missing or has another scheme (lower case)."""
    given_scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    return rest.strip() if given_scheme.lower() == scheme else ""


def basic_password(request: IncomingRequest) -> str:
    """Returns the password of HTTP Basic credentials, or "" without credentials."""
    return _basic(request).partition(":")[2]


def without_query(url: str) -> str:
    """Returns the URL without its query string, for the log: a query string may contain a token."""
    return url.partition("?")[0]


def from_network(peer: str, networks: Sequence[Network]) -> bool:
    """True if the address is in one of the networks. An invalid address is not."""
    address = address_of(peer)
    return address is not None and any(address in network for network in networks)


class Networks:
    """Set of networks, for frequent lookups of addresses.

    The result equals that of `from_network`, but a lookup of a plain IPv4 address is several times faster.
    """

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
    """Returns the address of a connection's other end, or None if it is not an address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    # A socket for both families shows IPv4 as ::ffff:a.b.c.d.
    return getattr(address, "ipv4_mapped", None) or address


def client_address(remote: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Returns the client's address: the connection's other end or, behind trusted proxies, the address they name.

    forwarded_for: the header X-Forwarded-For. Each proxy appends the address of its client, so it is read from the
    right.
    """
    address = remote
    for named in reversed([one.strip() for one in forwarded_for.split(",") if one.strip()]):
        if not from_network(address, trusted):
            break
        address = named
    return address


def _basic(request: IncomingRequest) -> str:
    try:
        return base64.b64decode(credentials(request, "basic"), validate=True).decode()
    except ValueError:
        return ""


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), secret.encode())
