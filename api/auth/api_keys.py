"""API keys for the command line: creates, lists and revokes them. Blocking."""

import secrets
import time
import uuid

from api.auth.key_authenticator import TOKEN_PREFIX, token_hash
from core.settings import Settings
from sinks.clickhouse.api_key_queries import ApiKey, ApiKeyStore

_TOKEN_BYTES = 32  # 256 random bits: see key_authenticator.token_hash


def create_key(settings: Settings, tenant: str, name: str) -> str:
    """Creates a key that sees this tenant's calls and returns it.

    Only the key's hash is stored, so the key cannot be shown again. Raises ValueError if the tenant is empty,
    StoreUnavailableError if ClickHouse is unavailable or not configured.
    """
    if not tenant.strip():
        raise ValueError("a key needs a tenant: name the tenant whose calls the key sees")
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    ApiKeyStore(settings.clickhouse).put(
        ApiKey(id=uuid.uuid4().hex, tenant=tenant, name=name, hash=token_hash(token), created_at_ms=_now_ms())
    )
    return token


def list_keys(settings: Settings) -> list[ApiKey]:
    """Returns all keys, including revoked ones, oldest first. Raises StoreUnavailableError."""
    return ApiKeyStore(settings.clickhouse).list_all()


def revoke_key(settings: Settings, key_id: str) -> bool:
    """Revokes a key permanently and returns False if the key does not exist.

    A running API may accept the key for 3 s more. Raises StoreUnavailableError.
    """
    return ApiKeyStore(settings.clickhouse).revoke(key_id, _now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
