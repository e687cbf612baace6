"""The migrations of ClickHouse's schema: SQL files by number, and the list of what has been applied."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from clickhouse_connect.driver.client import Client

from sinks.schema_version import SchemaTooNewError

_log = logging.getLogger(__name__)

# The list of what has been applied. Two services that start at once may both apply a migration and both say so.
_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, applied_at DateTime DEFAULT now('UTC'))
ENGINE = ReplacingMergeTree ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class State:
    """A database as it is found. server: ClickHouse's version; applied: names of migrations by number."""

    server: str
    applied: Mapping[int, str]

    @property
    def pending(self) -> list[str]:
        """Names of the migrations it has not had, in order."""
        return [name for version, name, _ in migrations() if version not in self.applied]

    def refuse_newer(self) -> None:
        """Raises SchemaTooNewError if it has had migrations that we do not have."""
        known = max(version for version, _, _ in migrations())
        found = max(self.applied, default=0)
        if found > known:
            raise SchemaTooNewError("ClickHouse", self.applied[found], f"up to {known:04d}")


def state(client: Client, database: str) -> State:
    """What has been applied to the database, which need not be there. Changes nothing."""
    there = client.query(
        "SELECT count() FROM system.tables WHERE database = {name:String} AND name = 'schema_migrations'",
        parameters={"name": database},
    ).result_rows[0][0]
    return State(str(client.command("SELECT version()")), _applied(client, f"{quoted(database)}.") if there else {})


def migrate(client: Client) -> None:
    """Applies the migrations that the database has not had, in order of their numbers. Raises SchemaTooNewError.

    Safe when several services start at once: every statement can be applied twice (IF NOT EXISTS and the like), and a
    migration is recorded only after all its statements, so that one cut short is applied again.
    """
    client.command(_MIGRATIONS_TABLE)
    applied = _applied(client)
    State("", applied).refuse_newer()
    for version, name, sql in migrations():
        if version in applied:
            continue
        for statement in statements(sql):
            client.command(statement)
        client.insert("schema_migrations", [[version, name]], column_names=["version", "name"])
        _log.info("ClickHouse schema: applied %s", name)


def migrations() -> list[tuple[int, str, str]]:
    """Number, file name and SQL of every migration, in order. The number is the file name's beginning."""
    files = (file for file in (resources.files(__package__) / "migrations").iterdir() if file.name.endswith(".sql"))
    return sorted((int(file.name.split("_")[0]), file.name, file.read_text("utf-8")) for file in files)


def statements(sql: str) -> list[str]:
    """The statements of a migration: each ends with a semicolon at the end of a line."""
    parts = re.split(r";[ \t]*$", sql, flags=re.MULTILINE)
    return [part.strip() for part in parts if re.sub(r"--.*", "", part).strip()]


def quoted(name: str) -> str:
    """A database's or table's name as SQL takes it."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _applied(client: Client, database: str = "") -> dict[int, str]:
    rows = client.query(f"SELECT version, name FROM {database}schema_migrations").result_rows
    return {int(version): str(name) for version, name in rows}
