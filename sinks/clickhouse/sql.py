"""Parts of SQL statements. Pure."""

from clickhouse_connect.driver.binding import format_query_value


def conditions(*conditions: tuple[str, str, object | None], keyword: str = "WHERE") -> tuple[str, dict[str, object]]:
    """Returns a clause of the conditions whose value is not None, and its parameters. Each is (SQL, name, value)."""
    given = [(sql, name, value) for sql, name, value in conditions if value is not None]
    clause = " AND ".join(sql for sql, _, _ in given)
    return f"{keyword} {clause}" if clause else "", {name: value for _, name, value in given}


def literal(names: list[tuple[str, str]] | list[str]) -> str:
    """Returns the pairs, or names, as a SQL literal.

    They are part of the statement, since parameters are part of the URL, whose length is limited.
    """
    return str(format_query_value(names))
