"""Queries of API keys. Results do not depend on duplicate rows or on the order of inserts."""

from core.settings import ClickHouseSettings
from schemas.events import Frozen
from sinks.clickhouse.client import Database
from sinks.clickhouse.sql import conditions


class ApiKey(Frozen):
    """Stored API key. hash: SHA-256 of the key as 64 hex digits; admin: True if the key sees every tenant.

    Times in ms since the epoch.
    """

    id: str
    tenant: str
    name: str
    hash: str
    created_at_ms: int
    revoked_at_ms: int | None = None
    admin: bool = False


class ApiKeyStore:
    """Stored API keys. Connects on first use. Thread-safe. Synchronous: use a thread in an event loop.

    Methods raise StoreUnavailableError.
    """

    def __init__(self, clickhouse: ClickHouseSettings | Database) -> None:
        """Does not connect yet. Raises StoreUnavailableError if no DSN is configured.

        Stores of one database share its connection.
        """
        self._database = Database.of(clickhouse)

    def put(self, key: ApiKey) -> None:
        """Stores a key. Storing it again changes nothing, and a revoked key stays revoked."""
        self._database.insert_values(
            "api_keys",
            ["id", "tenant", "name", "hash", "admin", "created_at", "revoked_at", "revoked"],
            [
                [
                    key.id,
                    key.tenant,
                    key.name,
                    key.hash,
                    key.admin,
                    key.created_at_ms,
                    key.revoked_at_ms,
                    int(key.revoked_at_ms is not None),
                ]
            ],
        )

    def list_all(self, tenant: str | None = None) -> list[ApiKey]:
        """Returns all keys, including revoked ones, oldest first."""
        where, parameters = conditions(("tenant = {tenant:String}", "tenant", tenant))
        return self._keys(where, parameters)

    def revoke(self, key_id: str, revoked_at_ms: int) -> bool:
        """Revokes a key permanently; returns False if the id is unknown. A second revocation keeps the first time."""
        keys = self._keys("WHERE id = {id:String}", {"id": key_id})
        for key in keys:
            if key.revoked_at_ms is None:
                self.put(key.model_copy(update={"revoked_at_ms": revoked_at_ms}))
        return bool(keys)

    def find_by_hash(self, key_hash: str) -> ApiKey | None:
        """Returns the key with this hash, revoked or not, or None."""
        keys = self._keys("WHERE hash = {hash:String}", {"hash": key_hash})
        return keys[0] if keys else None

    def _keys(self, where: str, parameters: dict[str, object]) -> list[ApiKey]:
        rows = self._database.query(
            f"""
            SELECT id, tenant, name, toString(hash) AS hash_hex, admin,
                   toUnixTimestamp64Milli(created_at) AS created_at_ms,
                   toUnixTimestamp64Milli(revoked_at) AS revoked_at_ms
            FROM api_keys FINAL {where} ORDER BY created_at, id
            """,
            parameters,
        )
        return [ApiKey.model_validate({**row, "hash": row["hash_hex"]}) for row in rows]
