"""Reference of all tables and views, from the comments in the schema.

`python -m sinks.clickhouse.reference docs/clickhouse.md` writes it again below the marker in that page.
"""

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sinks.clickhouse import schema

MARKER = "<!-- `python -m sinks.clickhouse.reference docs/clickhouse.md` writes everything below. -->"
_OWN_TABLE = "schema_migrations"
_EXAMPLE = re.compile(r",? e\.g\. (`[^`]*`)")

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Column:
    """Column of a table or view."""

    name: str
    type: str
    comment: str

    @property
    def example(self) -> str:
        """The example in the comment, "" without one."""
        found = _EXAMPLE.search(self.comment)
        return found[1] if found else ""

    @property
    def meaning(self) -> str:
        """The comment without the example."""
        return _EXAMPLE.sub("", self.comment)


@dataclass(frozen=True, slots=True)
class Table:
    """Table or view."""

    name: str
    view: bool
    comment: str
    columns: Sequence[Column]


def read_tables(query: Callable[[str], Iterable[Row]]) -> list[Table]:
    """Returns the tables and views of the current database, in order of their names. query: runs SQL."""
    columns: dict[str, list[Column]] = {}
    for row in query(
        "SELECT table, name, type, comment FROM system.columns WHERE database = currentDatabase() "
        "ORDER BY table, position"
    ):
        columns.setdefault(str(row["table"]), []).append(
            Column(str(row["name"]), str(row["type"]), str(row["comment"]))
        )
    return [
        Table(str(row["name"]), row["engine"] == "View", str(row["comment"]), columns[str(row["name"])])
        for row in query(
            "SELECT name, engine, comment FROM system.tables WHERE database = currentDatabase() ORDER BY name"
        )
        if row["name"] != _OWN_TABLE
    ]


def reference(tables: Sequence[Table]) -> str:
    """Returns the part of the page below the marker."""
    return "\n".join([MARKER, *_section("Views", tables, view=True), *_section("Tables", tables, view=False)]) + "\n"


def _section(title: str, tables: Sequence[Table], *, view: bool) -> Iterator[str]:
    yield from ("", f"## {title}")
    for table in tables:
        if table.view == view:
            yield from ("", f"### {table.name}", "", table.comment, "")
            yield from ("| Column | Type | Meaning | Example |", "| --- | --- | --- | --- |")
            for column in table.columns:
                cells = (f"`{column.name}`", f"`{column.type}`", column.meaning, column.example)
                yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _schema_in_memory() -> list[Table]:
    """Returns the tables and views of a new database in memory."""
    chdb: Any = importlib.import_module("chdb")  # part of the extra `local`
    session = chdb.connect(":memory:")
    for _, _, sql in schema.migrations():
        for statement in schema.statements(sql):
            session.query(statement)
    return read_tables(lambda sql: json.loads(str(session.query(sql, "JSON")))["data"])


def main(path: Path) -> None:
    """Writes the reference into the page."""
    page = path.read_text()
    path.write_text(page.partition(MARKER)[0] + reference(_schema_in_memory()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
