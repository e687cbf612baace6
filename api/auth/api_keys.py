"""API keys, for the command line: made, listed, revoked. Blocking."""

import secrets
import time
import uuid

from api.auth.key_authenticator import TOKEN_PREFIX, token_hash
from core.settings import Settings
from sinks.clickhouse.queries import ApiKey, CallStore

_TOKEN_BYTES = 32  # 256 random bits: see auth.token_hash


def create_key(settings: Settings, tenant: str, name: str) -> str:
    """A new key that sees this tenant's calls. Only its hash is stored: this is the one time it can be seen.

    Raises ValueError without a tenant, StoreUnavailableError if ClickHouse is away or not configured.
    """
    if not tenant.strip():
        raise ValueError("a key needs a tenant whose calls it sees")
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    CallStore(settings.clickhouse).put_key(
        ApiKey(id=uuid.uuid4().hex, tenant=tenant, name=name, hash=token_hash(token), created_at_ms=_now_ms())
    )
    return token


def list_keys(settings: Settings) -> list[ApiKey]:
    """All keys, revoked ones too, oldest first. Raises StoreUnavailableError."""
    return CallStore(settings.clickhouse).list_keys(None)


def revoke_key(settings: Settings, key_id: str) -> bool:
    """Ends a key for good; a running API may take it for 3 s more. False if there is none.

    Raises StoreUnavailableError.
    """
    return CallStore(settings.clickhouse).revoke(key_id, _now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
