"""Migrations of ClickHouse's schema: numbered SQL files, and the list of applied ones."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from clickhouse_connect.driver.client import Client

from sinks.schema_version import SchemaTooNewError

logger = logging.getLogger(__name__)

# The list of applied migrations. Two services that start at the same time may both apply and record a migration.
_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, applied_at DateTime DEFAULT now('UTC'))
ENGINE = ReplacingMergeTree ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """State of a database. server: ClickHouse's version; applied: names of migrations by number."""

    server: str
    applied: Mapping[int, str]

    @property
    def pending(self) -> list[str]:
        """Names of the migrations that are not applied, in order."""
        return [name for version, name, _ in migrations() if version not in self.applied]

    def require_known(self) -> None:
        """Raises SchemaTooNewError if a migration is applied that this version does not have."""
        known = max(version for version, _, _ in migrations())
        found = max(self.applied, default=0)
        if found > known:
            raise SchemaTooNewError("ClickHouse", self.applied[found], f"up to {known:04d}")


def read_state(client: Client, database: str) -> SchemaState:
    """Returns the state of the database, which may not exist, without changes."""
    there = client.query(
        "SELECT count() FROM system.tables WHERE database = {name:String} AND name = 'schema_migrations'",
        parameters={"name": database},
    ).result_rows[0][0]
    return SchemaState(
        str(client.command("SELECT version()")), _applied(client, f"{quoted(database)}.") if there else {}
    )


def migrate(client: Client) -> None:
    """Applies the pending migrations in the order of their numbers. Raises SchemaTooNewError.

    Safe if several services start at the same time: every statement can be applied twice (IF NOT EXISTS etc.), and a
    migration is recorded only after all its statements, so that an interrupted migration is applied again.
    """
    client.command(_MIGRATIONS_TABLE)
    applied = _applied(client)
    SchemaState("", applied).require_known()
    for version, name, sql in migrations():
        if version in applied:
            continue
        for statement in statements(sql):
            client.command(statement)
        client.insert("schema_migrations", [[version, name]], column_names=["version", "name"])
        logger.info("ClickHouse schema: applied %s", name)


def migrations() -> list[tuple[int, str, str]]:
    """Returns number, file name and SQL of every migration, in order. The file name begins with the number."""
    files = (file for file in (resources.files(__package__) / "migrations").iterdir() if file.name.endswith(".sql"))
    return sorted((int(file.name.split("_")[0]), file.name, file.read_text("utf-8")) for file in files)


def statements(sql: str) -> list[str]:
    """Returns the statements of a migration; each ends with a semicolon at the end of a line."""
    parts = re.split(r";[ \t]*$", sql, flags=re.MULTILINE)
    return [part.strip() for part in parts if re.sub(r"--.*", "", part).strip()]


def quoted(name: str) -> str:
    """Returns the name of a database or table, quoted for SQL."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _applied(client: Client, database: str = "") -> dict[int, str]:
    rows = client.query(f"SELECT version, name FROM {database}schema_migrations").result_rows
    return {int(version): str(name) for version, name in rows}
