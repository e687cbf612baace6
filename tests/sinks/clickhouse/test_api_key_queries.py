"""Queries of API keys against a real engine."""

import uuid

from sinks.clickhouse.api_key_queries import ApiKey, ApiKeyStore
from sinks.clickhouse.client import Database
from tests.support.call_events import T0


def test_keys_are_found_by_hash_and_stay_revoked(database: Database, tenant: str) -> None:
    """Stores a key twice, revokes it twice and stores it again: it is one key, it stays revoked, and keeps the time of
    the first revocation."""
    store = ApiKeyStore(database)
    key_hash = uuid.uuid4().hex * 2
    key = ApiKey(id=str(uuid.uuid4()), tenant=tenant, name="ci", hash=key_hash, created_at_ms=T0, admin=True)
    store.put(key)
    store.put(key)
    assert store.find_by_hash(key_hash) == key
    assert store.list_all(tenant) == [key]

    assert store.revoke(key.id, T0 + 1)
    assert store.revoke(key.id, T0 + 2)
    store.put(key)

    revoked = key.model_copy(update={"revoked_at_ms": T0 + 1})
    assert store.find_by_hash(key_hash) == revoked
    assert store.list_all(tenant) == [revoked]
    assert not store.revoke("nobody", T0)
    assert store.find_by_hash("0" * 64) is None
