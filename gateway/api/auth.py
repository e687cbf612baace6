"""Who asks: API keys as bearer tokens."""

import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.api.errors import unauthorized
from sinks.clickhouse.queries import ApiKey

log = logging.getLogger(__name__)

TOKEN_PREFIX = "at_"
_CACHE_SECONDS = 3.0  # how long a revoked key may still work
_CACHE_ENTRIES = 4096
_SHORT_KEY = 16


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. tenant: whose calls they see; None = every tenant's."""

    tenant: str | None


FindKey = Callable[[str], Awaitable[ApiKey | None]]


def token_hash(token: str) -> str:
    """SHA-256 (hex) of a token, which is all that is stored of it.

    A slow, salted password hash would gain nothing: tokens are 256 random bits, so there is no dictionary to try and
    no two are alike; and it would cost every request what it costs an attacker.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """Turns an Authorization header into a principal."""

    def __init__(
        self,
        find_key: FindKey,
        admin_key: str | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """find_key: the key that is stored with this hash. An empty admin key is none."""
        self._find_key = find_key
        self._clock = clock
        admin = (admin_key or "").strip()
        self._admin_hash = token_hash(admin) if admin else None
        if admin and len(admin) < _SHORT_KEY:
            log.warning(
                "AUDIOTEXT_ADMIN_KEY has only %d characters and opens every tenant's calls: "
                "outside of a trial use a long random one, e.g. `openssl rand -hex 32`",
                len(admin),
            )
        # By hash, oldest first: until when (monotonic seconds) a found key is taken without asking.
        self._cache: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def authenticate(self, header: str | None) -> Principal:
        """The principal of an Authorization header. Raises ApiError 401; lets pass what `find_key` raises."""
        scheme, _, token = (header or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise unauthorized()
        digest = token_hash(token)
        # Digests, not tokens, are compared: equal lengths, and a prefix found by timing tells nothing of the token.
        if self._admin_hash is not None and hmac.compare_digest(digest, self._admin_hash):
            return Principal(tenant=None)
        # What is no token of ours is refused without asking the store: nobody can keep it busy with guesses.
        if not token.startswith(TOKEN_PREFIX):
            raise unauthorized()
        return self._cached(digest) or await self._looked_up(digest)

    def _cached(self, digest: str) -> Principal | None:
        until, principal = self._cache.get(digest, (0.0, None))
        return principal if self._clock() < until else None

    async def _looked_up(self, digest: str) -> Principal:
        asked_at = self._clock()  # the answer is as old as the question
        stored = await self._find_key(digest)
        self._cache.pop(digest, None)
        if stored is None or stored.revoked_at_ms is not None or not hmac.compare_digest(digest, stored.hash):
            raise unauthorized()
        principal = Principal(tenant=None if stored.admin else stored.tenant)
        self._cache[digest] = (asked_at + _CACHE_SECONDS, principal)
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return principal
