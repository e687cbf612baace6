"""Who asks: API keys, whether sent or remembered by a session."""

import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from api.auth.signed_tokens import TokenSigner
from api.errors import unauthorized
from sinks.clickhouse.queries import ApiKey

log = logging.getLogger(__name__)

TOKEN_PREFIX = "at_"
_CACHE_SECONDS = 3.0  # how long a revoked key may still work
_CACHE_ENTRIES = 4096
_SHORT_KEY = 16


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. tenant: whose calls they see; None = every tenant's.

    subject: names the key that proves it, without giving it away: see `Authenticator.by_subject`. via: how it came.
    only_call: the one call that may be looked at, None = no such bound. expires_at_ms: of a session or a link, ms since
    the epoch. csrf_token: to be sent with what changes something, where a browser sends the proof by itself.
    """

    tenant: str | None
    subject: str = ""
    via: Literal["key", "session", "link", "kratos"] = "key"
    only_call: str | None = None
    expires_at_ms: int | None = None
    csrf_token: str | None = None

    @property
    def operator(self) -> bool:
        """Whether costs and margins may be shown: only to those who see every tenant."""
        return self.tenant is None and self.only_call is None


FindKey = Callable[[str], Awaitable[ApiKey | None]]


def token_hash(token: str) -> str:
    """SHA-256 (hex) of a token, which is all that is stored of it.

    A slow, salted password hash would gain nothing: tokens are 256 random bits, so there is no dictionary to try and
    no two are alike; and it would cost every request what it costs an attacker.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """Turns a key, or what remembers one, into a principal."""

    def __init__(
        self,
        find_key: FindKey,
        admin_key: str | None,
        seal: TokenSigner,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """find_key: the key that is stored with this hash. An empty admin key is none."""
        self._find_key = find_key
        self._clock = clock
        admin = (admin_key or "").strip()
        self._admin_hash = token_hash(admin) if admin else None
        # Not its plain hash: an admin key may be a word somebody could find by trying, and links are handed on.
        self._admin_subject = seal.digest("admin", self._admin_hash) if self._admin_hash else None
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
        if scheme.lower() != "bearer":
            raise unauthorized()
        return await self.by_key(token.strip())

    async def by_key(self, token: str) -> Principal:
        """The principal of an API key. Raises like `authenticate`."""
        digest = token_hash(token)
        # Digests, not tokens, are compared: equal lengths, and a prefix found by timing tells nothing of the token.
        if self._admin_hash is not None and hmac.compare_digest(digest, self._admin_hash):
            return Principal(tenant=None, subject=self._admin_subject or "")
        # What is no token of ours is refused without asking the store: nobody can keep it busy with guesses.
        if not token.startswith(TOKEN_PREFIX):
            raise unauthorized()
        return self._cached(digest) or await self._looked_up(digest)

    async def by_subject(self, subject: str) -> Principal:
        """The principal whose key a session or a link was made with, as long as that key is good. Raises alike."""
        if self._admin_subject is not None and hmac.compare_digest(subject, self._admin_subject):
            return Principal(tenant=None, subject=subject)
        return self._cached(subject) or await self._looked_up(subject)

    def _cached(self, digest: str) -> Principal | None:
        until, principal = self._cache.get(digest, (0.0, None))
        return principal if self._clock() < until else None

    async def _looked_up(self, digest: str) -> Principal:
        asked_at = self._clock()  # the answer is as old as the question
        stored = await self._find_key(digest)
        self._cache.pop(digest, None)
        if stored is None or stored.revoked_at_ms is not None or not hmac.compare_digest(digest, stored.hash):
            raise unauthorized()
        principal = Principal(tenant=None if stored.admin else stored.tenant, subject=digest)
        self._cache[digest] = (asked_at + _CACHE_SECONDS, principal)
        while len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return principal
