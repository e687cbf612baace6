"""Queries of issued tokens: share links, and tokens that were ended before their time."""

from core.settings import ClickHouseSettings
from schemas.events import Frozen
from sinks.clickhouse.client import Database


class IssuedToken(Frozen):
    """Share link or session. The token itself is not stored. Times in ms since the epoch.

    call_id: of a share link; "" for a session.
    """

    id: str
    tenant: str
    call_id: str
    created_at_ms: int
    expires_at_ms: int
    revoked: bool = False


class TokenStore:
    """Issued tokens. Every API process uses it, so a token that one process ends is invalid for all. Thread-safe.

    Connects on first use. Synchronous: use a thread in an event loop. Methods raise StoreUnavailableError.
    """

    def __init__(self, clickhouse: ClickHouseSettings | Database) -> None:
        """Does not connect yet. Raises StoreUnavailableError if no DSN is configured."""
        self._database = Database.of(clickhouse)

    def put(self, token: IssuedToken) -> None:
        """Stores a token. Storing it again changes nothing, and a revoked token stays revoked."""
        row = [token.id, token.tenant, token.call_id, token.created_at_ms, token.expires_at_ms, int(token.revoked)]
        columns = ["id", "tenant", "call_id", "created_at", "expires_at", "revoked"]
        self._database.insert_values("issued_tokens", columns, [row])

    def is_revoked(self, token_id: str) -> bool:
        """True if the token was revoked. A token that is not stored was not."""
        rows = self._database.query(
            "SELECT 1 AS yes FROM issued_tokens WHERE id = {id:String} AND revoked = 1 LIMIT 1", {"id": token_id}
        )
        return bool(rows)

    def links(self, tenant: str, call_id: str) -> list[IssuedToken]:
        """Returns the valid share links of a call, newest first."""
        rows = self._database.query(
            """
            SELECT id, tenant, call_id, toUnixTimestamp64Milli(created_at) AS created_at_ms,
                   toUnixTimestamp64Milli(expires_at) AS expires_at_ms
            FROM issued_tokens FINAL
            WHERE tenant = {tenant:String} AND call_id = {call:String} AND revoked = 0
              AND expires_at > now64(3, 'UTC')
            ORDER BY created_at DESC, id
            """,
            {"tenant": tenant, "call": call_id},
        )
        return [IssuedToken.model_validate(row) for row in rows]
