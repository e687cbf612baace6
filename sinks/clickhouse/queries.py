"""Queries of calls, usage and API keys. Results do not depend on duplicate rows or on the order of inserts."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, Literal, Protocol, TypeVar

from clickhouse_connect.driver.binding import format_query_value

from core.settings import ClickHouseSettings
from schemas.events import AnyEvent, Frozen, ReplayCommand, ReplayedPart, StageFailed, parse_event
from sinks.clickhouse.call_list_query import (
    NOT_ERASED,
    CallFilter,
    InvalidCursorError,
    Position,
    conditions,
    decode_cursor,
    encode_cursor,
    position,
    positions_query,
)
from sinks.clickhouse.call_projection import (
    NOT_EVIDENCE,
    SUCCESS,
    CallDoc,
    Retry,
    Status,
    UsageLine,
    build_call,
    unique,
)
from sinks.clickhouse.client import Database
from sinks.clickhouse.replay_projection import retry_from
from sinks.clickhouse.result_versions import current_transcript
from sinks.clickhouse.rows import event_row

__all__ = ["ApiKey", "CallStore", "GroupBy", "InvalidCursorError", "UsageSum"]


class Found(Protocol):
    """Search hit: a piece of a part's transcript."""

    @property
    def tenant(self) -> str: ...
    @property
    def call_id(self) -> str: ...
    @property
    def part(self) -> int: ...
    @property
    def transcript_id(self) -> str: ...


F = TypeVar("F", bound=Found)

GroupBy = Literal["day", "tenant", "provider", "kind", "call"]

_PAGE_MAX = 500
_CALLS_PER_QUERY = 100  # keeps statements far below ClickHouse's limit of 256 KiB
_SCAN = 200  # calls per query when a filter needs their documents

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
    lines: number of lines. units: 50 per minute. duration_ms: audio of the recordings, each counted once (see the view
    `bill`); minutes: the same with three decimals. margin: price minus provider_cost.
    """

    group: str
    currency: str
    lines: int
    units: int
    duration_ms: int
    minutes: str
    provider_cost: str
    price: str
    margin: str


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


class CallStore:
    """Queries of the API. Connects on first use. Thread-safe. Synchronous: use a thread in an event loop.

    `tenant` limits every result to one tenant; None = all tenants. Methods raise StoreUnavailableError.
    """

    def __init__(self, clickhouse: ClickHouseSettings) -> None:
        """Does not connect yet. Raises StoreUnavailableError if no DSN is configured."""
        self._database = Database(clickhouse)

    def migrate(self) -> None:
        """Migrates the schema; shows early whether ClickHouse answers."""
        self._database.migrate()

    def get_call(self, call_id: str, tenant: str | None) -> CallDoc | None:
        """Returns the call, or None. If two tenants have the same call id, returns the newer visible call."""
        events = self._events("call_id = {call_id:String}", {"call_id": call_id}, tenant)
        calls = self._build(events)
        return max(calls, key=lambda call: (call.started_at_ms, call.tenant), default=None)

    def get_hidden_call(self, tenant: str, call_id: str) -> CallDoc | None:
        """Returns the call even if it is hidden by an erasure, or None."""
        events = self._events("call_id = {call_id:String}", {"call_id": call_id}, tenant, visible="true")
        return next(iter(self._build(events)), None)

    def find_calls(self, call_ids: Sequence[str], tenant: str | None) -> list[CallDoc]:
        """Returns the existing calls of these ids, unordered; several calls of one id if tenants share it."""
        found: list[CallDoc] = []
        for start in range(0, len(call_ids), _CALLS_PER_QUERY):
            names = list(call_ids[start : start + _CALLS_PER_QUERY])
            found += self._build(self._events(f"call_id IN {_literal(names)}", {}, tenant))
        return found

    def get_calls(self, names: Sequence[tuple[str, str]]) -> list[CallDoc]:
        """Returns the existing calls of these (tenant, call id) pairs, at most 100, unordered."""
        return self._build(self._events(f"(tenant, call_id) IN {_literal(list(names))}", {}, None)) if names else []

    def list_calls(
        self,
        *,
        tenant: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        status: Status | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        query: str | None = None,
    ) -> tuple[list[CallDoc], str | None]:
        """Returns a page of at most `limit` calls, newest first, and the cursor of the next page (None for the last).

        since_ms, until_ms: start of the call (ms since the epoch; since is included, until is not). query: part of the
        call id or of a number. New calls do not change the pages after a cursor. Raises InvalidCursorError.
        """
        limit = max(1, min(limit, _PAGE_MAX))
        after = decode_cursor(cursor) if cursor else None
        wanted = CallFilter(tenant, status, since_ms, until_ms, query)
        found: list[tuple[Position, CallDoc]] = []
        while len(found) <= limit:
            # One more than requested, to find out whether there is a next page.
            size = limit + 1 if status is None else max(limit + 1, _SCAN)
            positions = [position(row) for row in self._database.query(*positions_query(wanted, after, size))]
            if not positions:
                break
            calls = self._calls_at(positions)
            found += [(at, call) for at, call in calls if status is None or call.status == status]
            after = positions[-1]
            if len(positions) < size:
                break
        page = found[:limit]
        return [call for _, call in page], encode_cursor(page[-1][0]) if len(found) > limit else None

    def events(self, call_id: str, tenant: str | None) -> list[dict[str, object]]:
        """Returns the call's events as JSON objects, each once, in the order in which they occurred."""
        events = self._events("call_id = {call_id:String}", {"call_id": call_id}, tenant)
        return [event.model_dump(mode="json") for event in unique(events)]

    def events_by_call(self, calls: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[AnyEvent]]:
        """Returns the events of these calls (tenant, call id), each once, in the order in which they occurred.

        Leaves out calls without events.
        """
        found: dict[tuple[str, str], list[AnyEvent]] = {}
        for start in range(0, len(calls), _CALLS_PER_QUERY):
            names = list(calls[start : start + _CALLS_PER_QUERY])
            for event in unique(self._events(f"(tenant, call_id) IN {_literal(names)}", {}, None)):
                found.setdefault((event.tenant, event.call_id), []).append(event)
        return found

    def find_erased(self, calls: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Returns those of these calls (tenant, call id) that are erased or requested to be erased."""
        found: set[tuple[str, str]] = set()
        for start in range(0, len(calls), _CALLS_PER_QUERY):
            names = _literal(list(calls[start : start + _CALLS_PER_QUERY]))
            rows = self._database.query(f"SELECT tenant, call_id FROM erased_calls WHERE (tenant, call_id) IN {names}")
            found |= {(str(row["tenant"]), str(row["call_id"])) for row in rows}
        return found

    def keep_current_hits(self, hits: Sequence[F]) -> list[F]:
        """Returns the hits of current transcripts, in their order.

        Keeps hits of calls that are not known here (yet), and drops hits of erased calls.
        """
        calls = list({(hit.tenant, hit.call_id) for hit in hits})
        if not calls:
            return []
        erased = self.find_erased(calls)
        current: dict[tuple[str, str, int], str] = {}
        for (tenant, call_id), events in self.events_by_call(calls).items():
            for part in {event.part for event in events}:
                transcript = current_transcript([event for event in events if event.part == part])
                if transcript:
                    current[tenant, call_id, part] = transcript.transcript_id
        return [
            hit
            for hit in hits
            if (hit.tenant, hit.call_id) not in erased
            and current.get((hit.tenant, hit.call_id, hit.part), hit.transcript_id) == hit.transcript_id
        ]

    def find_results(self, calls: Sequence[tuple[str, str]]) -> set[tuple[str, str, int, str]]:
        """Returns the results of these calls (tenant, call id) as tenant, call id, part and stage."""
        stages = {kind.model_fields["type"].default: stage for stage, kind in SUCCESS.items()}
        found: set[tuple[str, str, int, str]] = set()
        for start in range(0, len(calls), _CALLS_PER_QUERY):
            names = _literal(list(calls[start : start + _CALLS_PER_QUERY]))
            rows = self._database.query(
                f"""
                SELECT DISTINCT tenant, call_id, part, type FROM events
                WHERE (tenant, call_id) IN {names} AND has({{types:Array(String)}}, type)
                """,
                {"types": list(stages)},
            )
            found |= {
                (str(row["tenant"]), str(row["call_id"]), int(str(row["part"])), stages[str(row["type"])])
                for row in rows
            }
        return found

    def changed_since(self, since_ms: int) -> set[tuple[str, str]]:
        """Returns the calls (tenant, call id) with a new or newly current version since then (ms since the epoch)."""
        rows = self._database.query(
            f"""
            SELECT DISTINCT tenant, call_id FROM events
            WHERE occurred_at >= fromUnixTimestamp64Milli({{since:Int64}}) AND {NOT_ERASED}
            AND type IN ('transcript.ready', 'summary.ready', 'version.chosen')
            """,
            {"since": since_ms},
        )
        return {(str(row["tenant"]), str(row["call_id"])) for row in rows}

    def put_events(self, events: Sequence[AnyEvent]) -> None:
        """Stores events that are on the log already, so that their author finds them at once."""
        self._database.insert([event_row(event) for event in events])

    def usage(
        self,
        *,
        tenant: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        group_by: GroupBy | None = None,
        time_zone: str = "UTC",
    ) -> list[UsageSum]:
        """Returns sums of ledger lines by group and currency, ordered by both; without a group the totals.

        from_ms, to_ms: start of the calls (ms since the epoch; from is included, to is not). time_zone: name of the
        time zone of days.
        """
        group = _GROUPS[group_by] if group_by else "''"
        if group_by == "day" and time_zone != "UTC":
            group = "toString(toDate(call_started_at, {time_zone:String}))"
        where, parameters = _ledger_condition(tenant, from_ms, to_ms)
        rows = self._database.query(
            f"""
            SELECT {group} AS grouped, currency, count() AS lines, sum(units) AS all_units,
                   sum(audio_ms) AS all_ms, sum(provider_cost) AS all_cost, sum(price) AS all_price
            FROM bill {where}
            GROUP BY grouped, currency ORDER BY grouped, currency
            """,
            parameters | {"time_zone": time_zone},
        )
        return [_usage_row(row) for row in rows]

    def put_key(self, key: ApiKey) -> None:
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

    def list_keys(self, tenant: str | None) -> list[ApiKey]:
        """Returns all keys, including revoked ones, oldest first."""
        where, parameters = conditions(("tenant = {tenant:String}", "tenant", tenant))
        return self._keys(where, parameters)

    def revoke_key(self, key_id: str, revoked_at_ms: int) -> bool:
        """Revokes a key permanently; returns False if the id is unknown. A second revocation keeps the first time."""
        keys = self._keys("WHERE id = {id:String}", {"id": key_id})
        for key in keys:
            if key.revoked_at_ms is None:
                self.put_key(key.model_copy(update={"revoked_at_ms": revoked_at_ms}))
        return bool(keys)

    def find_key_by_hash(self, key_hash: str) -> ApiKey | None:
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

    def _calls_at(self, positions: Sequence[Position]) -> list[tuple[Position, CallDoc]]:
        """Returns each position with the document of its call."""
        calls: dict[tuple[str, str], CallDoc] = {}
        for start in range(0, len(positions), _CALLS_PER_QUERY):
            names = [(at.tenant, at.call_id) for at in positions[start : start + _CALLS_PER_QUERY]]
            events = self._events(f"(tenant, call_id) IN {_literal(names)}", {}, None)
            calls |= {(call.tenant, call.id): call for call in self._build(events)}
        return [(at, calls[at.tenant, at.call_id]) for at in positions if (at.tenant, at.call_id) in calls]

    def _events(
        self, condition: str, parameters: dict[str, object], tenant: str | None, *, visible: str = NOT_ERASED
    ) -> list[AnyEvent]:
        where, more = conditions(("tenant = {tenant:String}", "tenant", tenant))
        where = f"{where or 'WHERE true'} AND {condition} AND {visible}"
        rows = self._database.query(f"SELECT DISTINCT event FROM events {where}", parameters | more)
        return [parse_event(str(row["event"])) for row in rows]

    def _build(self, events: Iterable[AnyEvent]) -> list[CallDoc]:
        """Returns the calls of these events, with their ledger lines."""
        by_call: dict[tuple[str, str], list[AnyEvent]] = {}
        for event in events:
            by_call.setdefault((event.tenant, event.call_id), []).append(event)
        lines = self._lines(list(by_call))
        failed = [call for call, group in by_call.items() if any(isinstance(event, StageFailed) for event in group)]
        retries = self._retries(failed)
        return [
            build_call(group, lines.get(call, ()), retries.get(call, ()))
            for call, group in by_call.items()
            if not all(isinstance(event, NOT_EVIDENCE) for event in group)  # see positions_query
        ]

    def _retries(self, calls: list[tuple[str, str]]) -> dict[tuple[str, str], list[Retry]]:
        """Returns the replays of these calls' parts that are in progress or failed."""
        if not calls:
            return {}
        rows = self._database.query(
            f"""
            SELECT event FROM replays FINAL
            WHERE (tenant, call_id) IN {_literal(calls)} AND type = 'replay.part' AND outcome IN ('begun', 'failed')
            """
        )
        parts = [event for row in rows if isinstance(event := parse_event(str(row["event"])), ReplayedPart)]
        if not parts:
            return {}
        rows = self._database.query(
            f"""
            SELECT DISTINCT event FROM replays
            WHERE replay_id IN {_literal(sorted({part.replay_id for part in parts}))} AND type = 'replay.command'
            """
        )
        commands: dict[str, list[ReplayCommand]] = {}
        for row in rows:
            if isinstance(command := parse_event(str(row["event"])), ReplayCommand):
                commands.setdefault(command.replay_id, []).append(command)
        found: dict[tuple[str, str], list[Retry]] = {}
        for part in parts:
            if of_replay := commands.get(part.replay_id):
                found.setdefault((part.tenant, part.call_id), []).append(retry_from(part, of_replay))
        return found

    def _lines(self, calls: list[tuple[str, str]]) -> dict[tuple[str, str], list[UsageLine]]:
        if not calls:
            return {}
        rows = self._database.query(
            f"""
            SELECT tenant, call_id, key, kind, provider, model, replay_id,
                   toUnixTimestamp64Milli(occurred_at) AS charged_at_ms, units, duration_ms, provider_cost, price,
                   currency
            FROM ledger FINAL WHERE (tenant, call_id) IN {_literal(calls)}
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


def _literal(names: list[tuple[str, str]] | list[str]) -> str:
    """Returns the pairs, or names, as a SQL literal.

    They are part of the statement, since parameters are part of the URL, whose length is limited.
    """
    return str(format_query_value(names))


def _usage_row(row: dict[str, object]) -> UsageSum:
    cost, price = Decimal(str(row["all_cost"])), Decimal(str(row["all_price"]))
    duration_ms = int(str(row["all_ms"]))
    return UsageSum(
        group=str(row["grouped"]),
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
