"""Rules for the read-only user of the embedded ClickHouse.

The engine has one user, who may do everything. So every statement of the read-only user is checked before it runs: the
engine's own parser describes it (`canonical_sql`, `syntax_tree_sql`), and `refusal` decides. The engine's setting
`readonly` refuses writes, files and networks, but not all of the statements that `refusal` refuses.
"""

import re
from collections.abc import Iterable, Mapping

READONLY_SETTINGS: Mapping[str, str] = {
    "dialect": "'clickhouse'",  # the one that is checked
    # The engine runs one query at a time, so a long query of an analyst delays the services' inserts.
    "max_execution_time": "10",
    "readonly": "1",  # the last one: afterwards no setting can be changed
}
"""Settings of every session of the read-only user."""

_HIDDEN_TABLE = "api_keys"
# Table functions that read nothing. The others read files, networks, or tables by a pattern.
_HARMLESS = frozenset(
    (
        *("numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "generateseries", "generate_series"),
        *("values", "null", "view", "format"),
    )
)
_QUERIES = ("SelectWithUnionQuery", "SelectIntersectExceptQuery", "DescribeQuery")
_LISTS = ("ShowTables", "ShowColumns", "ShowCreateTableQuery", "ShowCreateViewQuery", "ExistsTableQuery")
_FUNCTION = re.compile(r"\s*Function (\S+)")
_IDENTIFIER = re.compile(rf"\s*\w*Identifier\b.*{_HIDDEN_TABLE}")


def canonical_sql(sql: str) -> str:
    """Returns a query whose result is the statement without comments. It fails if the text is not one statement."""
    escaped = sql.replace("\\", "\\\\").replace("'", "\\'")
    return f"SELECT formatQuery('{escaped}')"


def syntax_tree_sql(canonical: str) -> str:
    """Returns a query whose result is the syntax tree of the statement, with its parameters inserted."""
    return f"EXPLAIN AST {canonical}"


def refusal(canonical: str, tree: str, table_functions: Iterable[str]) -> str | None:
    """Returns the reason for which the read-only user may not run the statement, or None.

    table_functions: names of all table functions of the engine.
    """
    forbidden = {name.lower() for name in table_functions} - _HARMLESS
    kind = tree.split(maxsplit=1)[0] if tree.strip() else ""
    if kind not in _QUERIES and not (kind in _LISTS and "(" not in canonical):
        return "only SELECT, SHOW, DESCRIBE and EXISTS are allowed"
    if re.search(r"\bINTO\s+OUTFILE\b", canonical, re.IGNORECASE):
        return "INTO OUTFILE is not allowed"
    for line in tree.splitlines():
        function = _FUNCTION.match(line)
        if function and function[1].lower() in forbidden:
            return f"the function {function[1]} is not allowed"
        if _IDENTIFIER.match(line):
            return f"the table {_HIDDEN_TABLE} is not allowed"
    return None
