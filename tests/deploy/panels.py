"""Queries of Grafana's panels, as Grafana would send them."""

import re
from collections.abc import Sequence

HOUR = 3_600_000


def expanded(sql: str, tenants: Sequence[str], around_ms: int, providers: Sequence[str] = ("whisper",)) -> str:
    """The SQL with the macros of Grafana's ClickHouse plugin and the dashboard's variables replaced: for a day that
    begins an hour before `around_ms` (ms since the epoch)."""
    begin, end = (around_ms - HOUR) // 1000, (around_ms + 24 * HOUR) // 1000
    sql = re.sub(r"\$__timeFilter\(([^()]+)\)", rf"\1 >= toDateTime({begin}) AND \1 <= toDateTime({end})", sql)
    sql = re.sub(r"\$__timeInterval\(([^()]+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 3600 second)", sql)
    for name, values in (("tenant", tenants), ("provider", providers)):
        sql = sql.replace(f"${{{name}:singlequote}}", ",".join("'" + one.replace("'", "\\'") + "'" for one in values))
    assert "$" not in sql, sql
    return sql
