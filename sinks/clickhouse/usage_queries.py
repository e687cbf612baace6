"""Queries of the ledger: sums and lines. Results do not depend on duplicate rows or on the order of inserts."""

from decimal import Decimal
from typing import Final, Literal

from core.settings import ClickHouseSettings
from schemas.events import Frozen
from sinks.clickhouse.call_list_query import CallFilter, calls_query
from sinks.clickhouse.call_projection import UsageLine
from sinks.clickhouse.client import Database
from sinks.clickhouse.sql import conditions, literal

GroupBy = Literal["day", "tenant", "provider", "kind", "call"]

_GROUPS: Final[dict[str, str]] = {
    "day": "toString(day)",
    "tenant": "tenant",
    "provider": "provider",
    "kind": "kind",
    "call": "call_id",
}


class UsageSum(Frozen):
    """Sum of ledger lines of one currency. Amounts are exact decimal strings.

    group: the day (YYYY-MM-DD, of the call's start), tenant, provider, kind or call id; "" for the total.
    tenant: of the call, in groups by call; else "".
    lines: number of lines. units: 50 per minute. duration_ms: audio of the recordings, each counted once (see the view
    `bill`); minutes: the same with three decimals. margin: price minus provider_cost.
    """

    group: str
    tenant: str = ""
    currency: str
    lines: int
    units: int
    duration_ms: int
    minutes: str
    provider_cost: str
    price: str
    margin: str


class UsageStore:
    """Sums of the ledger. Connects on first use. Thread-safe. Synchronous: use a thread in an event loop.

    Methods raise StoreUnavailableError.
    """

    def __init__(self, clickhouse: ClickHouseSettings | Database) -> None:
        """Does not connect yet. Raises StoreUnavailableError if no DSN is configured.

        Stores of one database share its connection.
        """
        self._database = Database.of(clickhouse)

    def sums(
        self,
        *,
        tenant: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        group_by: GroupBy | None = None,
        time_zone: str = "UTC",
        of_calls: CallFilter | None = None,
    ) -> list[UsageSum]:
        """Returns sums of ledger lines by group and currency, ordered by both; without a group the totals.

        from_ms, to_ms: start of the calls (ms since the epoch; from is included, to is not). time_zone: name of the
        time zone of days. of_calls: only lines of calls that pass this filter, which has no status; erased calls do not
        pass it.
        """
        group = _GROUPS[group_by] if group_by else "''"
        if group_by == "day" and time_zone != "UTC":
            group = "toString(toDate(call_started_at, {time_zone:String}))"
        owner = "tenant" if group_by == "call" else "''"  # several tenants may have a call with the same id
        where, parameters = _ledger_condition(tenant, from_ms, to_ms)
        if of_calls is not None:
            calls, more = calls_query(of_calls)
            where += f"{' AND' if where else 'WHERE'} (tenant, call_id) IN (SELECT tenant, call_id FROM ({calls}))"
            parameters |= more
        rows = self._database.query(
            f"""
            SELECT {group} AS grouped, {owner} AS owner, currency, count() AS lines, sum(units) AS all_units,
                   sum(audio_ms) AS all_ms, sum(provider_cost) AS all_cost, sum(price) AS all_price
            FROM bill {where}
            GROUP BY grouped, owner, currency ORDER BY grouped, owner, currency
            """,
            parameters | {"time_zone": time_zone},
        )
        return [_usage_row(row) for row in rows]


def ledger_lines(database: Database, calls: list[tuple[str, str]]) -> dict[tuple[str, str], list[UsageLine]]:
    """Returns the ledger lines of these calls (tenant, call id). Leaves out calls without lines."""
    if not calls:
        return {}
    rows = database.query(
        f"""
        SELECT tenant, call_id, key, kind, provider, model, replay_id,
               toUnixTimestamp64Milli(occurred_at) AS charged_at_ms, units, duration_ms, provider_cost, price,
               currency
        FROM ledger FINAL WHERE (tenant, call_id) IN {literal(calls)}
        """
    )
    lines: dict[tuple[str, str], list[UsageLine]] = {}
    for row in rows:
        money = {name: _plain(row[name]) for name in ("provider_cost", "price")}
        line = UsageLine.model_validate(row | money)
        lines.setdefault((str(row["tenant"]), str(row["call_id"])), []).append(line)
    return lines


def _ledger_condition(tenant: str | None, from_ms: int | None, to_ms: int | None) -> tuple[str, dict[str, object]]:
    """Returns the condition for ledger lines of these calls, and its parameters."""
    return conditions(
        ("tenant = {tenant:String}", "tenant", tenant),
        ("call_started_at >= fromUnixTimestamp64Milli({from_ms:Int64})", "from_ms", from_ms),
        ("call_started_at < fromUnixTimestamp64Milli({to_ms:Int64})", "to_ms", to_ms),
    )


def _usage_row(row: dict[str, object]) -> UsageSum:
    cost, price = Decimal(str(row["all_cost"])), Decimal(str(row["all_price"]))
    duration_ms = int(str(row["all_ms"]))
    return UsageSum(
        group=str(row["grouped"]),
        tenant=str(row["owner"]),
        currency=str(row["currency"]),
        lines=int(str(row["lines"])),
        units=int(str(row["all_units"])),
        duration_ms=duration_ms,
        minutes=f"{Decimal(duration_ms) / 60_000:.3f}",
        provider_cost=_plain(cost),
        price=_plain(price),
        margin=_plain(price - cost),
    )


def _plain(amount: object) -> str:
    """Returns an exact amount without the trailing zeros of its column, and never in exponent notation."""
    text = f"{Decimal(str(amount)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
