"""Authentication by API key, sent directly or remembered by a session."""

import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from api.auth.scope import Scope
from api.errors import unauthorized
from core.token_signer import TokenSigner
from sinks.clickhouse.api_key_queries import ApiKey

logger = logging.getLogger(__name__)

TOKEN_PREFIX = "at_"
_CACHE_SECONDS = 3.0  # a revoked key may still work this long
_CACHE_ENTRIES = 4096
_SHORT_KEY = 16


@dataclass(frozen=True, slots=True)
class Principal:
    """Identity and rights of a client.

    scope: the tenants whose calls the client sees.
    subject: identifies the key without revealing it: see `Authenticator.by_subject`.
    via: the authentication method.
    only_call: the one call that the client may read, None = no such limit.
    expires_at_ms: end of a session or a link, ms since the epoch.
    token_id: identifies the session.
    csrf_token: must be sent with state changes, where a browser sends the credentials by itself.
    """

    scope: Scope = Scope.NONE
    subject: str = ""
    via: Literal["key", "session", "link", "kratos"] = "key"
    only_call: str | None = None
    expires_at_ms: int | None = None
    token_id: str = ""
    csrf_token: str | None = None

    @property
    def tenant(self) -> str | None:
        """Filter for the stores: one tenant, None = every tenant. Raises PermissionError without rights."""
        return self.scope.tenant

    @property
    def operator(self) -> bool:
        """True if the client may see costs and margins: only a client that sees every tenant may."""
        return self.scope.every and self.only_call is None


FindKey = Callable[[str], Awaitable[ApiKey | None]]
ListKeys = Callable[[], Awaitable[Sequence[ApiKey]]]


def token_hash(token: str) -> str:
    """Returns the SHA-256 (hex) of a token; the token itself is never stored.

    A slow, salted password hash would add nothing: tokens are 256 random bits, so no dictionary helps an attacker and
    no two tokens are equal. A slow hash would cost every request as much as it costs an attacker.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """Resolves a key, or a subject that stands for a key, to a principal."""

    def __init__(
        self,
        find_key: FindKey,
        admin_key: str | None,
        token_signer: TokenSigner,
        *,
        list_keys: ListKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """find_key: returns the stored key with this hash. An empty admin key counts as not set.

        list_keys: returns all stored keys, for clients with too many failures.
        """
        self._find_key = find_key
        self._list_keys = list_keys
        self._listed_until = float("-inf")
        self._listed: frozenset[str] = frozenset()
        self._clock = clock
        admin = (admin_key or "").strip()
        self._admin_hash = token_hash(admin) if admin else None
        # Not the plain hash: an admin key may be a word that can be guessed, and links are passed to other people.
        self._admin_subject = token_signer.digest("admin", self._admin_hash) if self._admin_hash else None
        if admin and len(admin) < _SHORT_KEY:
            logger.warning(
                "AUDIOTEXT_ADMIN_KEY has only %d characters and gives access to every tenant's calls: "
                "in production use a long random key, e.g. `openssl rand -hex 32`",
                len(admin),
            )
        # By hash, oldest first: expiry (monotonic seconds) of a found key, and its principal.
        self._cache: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def authenticate(self, header: str | None, *, suspicious: bool = False) -> Principal:
        """Returns the principal of an Authorization header.

        Raises ApiError 401, and whatever `find_key` raises.
        """
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized()
        return await self.by_key(token.strip(), suspicious=suspicious)

    async def by_key(self, token: str, *, suspicious: bool = False) -> Principal:
        """Returns the principal of an API key. Raises like `authenticate`.

        suspicious: the client had too many failures. Its unknown keys together cause one query in three seconds.
        """
        digest = token_hash(token)
        # Compares digests, not tokens: lengths are equal, and a prefix found by timing reveals nothing of the token.
        if self._admin_hash is not None and hmac.compare_digest(digest, self._admin_hash):
            return Principal(Scope.ALL, subject=self._admin_subject or "")
        # Text that is not one of our tokens is refused without a query, so guesses cannot keep the store busy.
        if not token.startswith(TOKEN_PREFIX):
            raise unauthorized()
        if cached := self._cached(digest):
            return cached
        if suspicious and self._list_keys is not None and digest not in await self._known_hashes(self._list_keys):
            raise unauthorized()
        return await self._look_up(digest)

    async def by_subject(self, subject: str) -> Principal:
        """Returns the principal of the key that created a session or a link, while that key is valid.

        Raises like `authenticate`.
        """
        if self._admin_subject is not None and hmac.compare_digest(subject, self._admin_subject):
            return Principal(Scope.ALL, subject=subject)
        return self._cached(subject) or await self._look_up(subject)

    def _cached(self, digest: str) -> Principal | None:
        until, principal = self._cache.get(digest, (0.0, None))
        return principal if self._clock() < until else None

    async def _known_hashes(self, list_keys: ListKeys) -> frozenset[str]:
        """Returns the hashes of all stored keys, up to three seconds old."""
        if self._clock() >= self._listed_until:
            self._listed_until = self._clock() + _CACHE_SECONDS  # before the query: other requests must not repeat it
            self._listed = frozenset(key.hash for key in await list_keys())
        return self._listed

    async def _look_up(self, digest: str) -> Principal:
        queried_at = self._clock()  # the result may be as old as the start of the query
        stored = await self._find_key(digest)
        self._cache.pop(digest, None)
        if stored is None or stored.revoked_at_ms is not None or not hmac.compare_digest(digest, stored.hash):
            raise unauthorized()
        principal = Principal(Scope.ALL if stored.admin else Scope.of(stored.tenant), subject=digest)
        self._cache[digest] = (queried_at + _CACHE_SECONDS, principal)
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return principal
