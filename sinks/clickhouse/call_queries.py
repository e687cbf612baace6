"""Queries of calls. Results do not depend on duplicate rows or on the order of inserts."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from core.settings import ClickHouseSettings
from schemas.events import AnyEvent, ReplayCommand, ReplayedPart, StageFailed, parse_event
from sinks.clickhouse.ambiguity import require_one_tenant_each
from sinks.clickhouse.call_list_query import (
    EVERY_CALL,
    NOT_ERASED,
    CallFilter,
    Position,
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
    build_call,
    unique,
)
from sinks.clickhouse.client import Database
from sinks.clickhouse.replay_projection import retry_from
from sinks.clickhouse.result_versions import current_transcript
from sinks.clickhouse.rows import event_row
from sinks.clickhouse.sql import conditions, literal
from sinks.clickhouse.usage_queries import ledger_lines


class _Hit(Protocol):
    """Search hit: a piece of a part's transcript."""

    @property
    def tenant(self) -> str: ...
    @property
    def call_id(self) -> str: ...
    @property
    def part(self) -> int: ...
    @property
    def transcript_id(self) -> str: ...


H = TypeVar("H", bound=_Hit)

_PAGE_MAX = 500
_CALLS_PER_QUERY = 100  # keeps statements far below ClickHouse's limit of 256 KiB
_SCAN = 200  # calls per query when a filter needs their documents


class CallStore:
    """Queries of calls. Connects on first use. Thread-safe. Synchronous: use a thread in an event loop.

    `tenant` limits every result to one tenant; None = all tenants. Methods raise StoreUnavailableError.
    """

    def __init__(self, clickhouse: ClickHouseSettings | Database) -> None:
        """Does not connect yet. Raises StoreUnavailableError if no DSN is configured.

        Stores of one database share its connection.
        """
        self._database = Database.of(clickhouse)

    def migrate(self) -> None:
        """Migrates the schema; shows early whether ClickHouse answers."""
        self._database.migrate()

    def get_call(self, call_id: str, tenant: str | None) -> CallDoc | None:
        """Returns the visible call, or None.

        Raises AmbiguousCallError if `tenant` is None and several tenants have a call with this id.
        """
        calls = self._build(self._events("call_id = {call_id:String}", {"call_id": call_id}, tenant))
        require_one_tenant_each(calls)
        return next(iter(calls), None)

    def get_hidden_call(self, tenant: str, call_id: str) -> CallDoc | None:
        """Returns the call even if it is hidden by an erasure, or None."""
        events = self._events("call_id = {call_id:String}", {"call_id": call_id}, tenant, visible="true")
        return next(iter(self._build(events)), None)

    def dead_letters(self, tenant: str, call_id: str) -> list[StageFailed]:
        """Returns the dead letters of the call, even if it is hidden by an erasure."""
        condition = "call_id = {call_id:String} AND type = 'stage.failed'"
        events = self._events(condition, {"call_id": call_id}, tenant, visible="true")
        return [event for event in events if isinstance(event, StageFailed)]

    def find_calls(self, call_ids: Sequence[str], tenant: str | None) -> list[CallDoc]:
        """Returns the existing calls of these ids, unordered; several calls of one id if tenants share it."""
        found: list[CallDoc] = []
        for start in range(0, len(call_ids), _CALLS_PER_QUERY):
            names = list(call_ids[start : start + _CALLS_PER_QUERY])
            found += self._build(self._events(f"call_id IN {literal(names)}", {}, tenant))
        return found

    def get_calls(self, names: Sequence[tuple[str, str]]) -> list[CallDoc]:
        """Returns the existing calls of these (tenant, call id) pairs, at most 100, unordered."""
        return self._build(self._events(f"(tenant, call_id) IN {literal(list(names))}", {}, None)) if names else []

    def list_calls(
        self, wanted: CallFilter = EVERY_CALL, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[CallDoc], str | None]:
        """Returns a page of at most `limit` calls, newest first, and the cursor of the next page (None for the last).

        New calls do not change the pages after a cursor. Raises InvalidCursorError.
        """
        limit = max(1, min(limit, _PAGE_MAX))
        after = decode_cursor(cursor) if cursor else None
        found: list[tuple[Position, CallDoc]] = []
        while len(found) <= limit:
            # One more than requested, to find out whether there is a next page.
            size = limit + 1 if wanted.status is None else max(limit + 1, _SCAN)
            positions = [position(row) for row in self._database.query(*positions_query(wanted, after, size))]
            if not positions:
                break
            calls = self._calls_at(positions)
            found += [(at, call) for at, call in calls if wanted.decided_by(call)]
            after = positions[-1]
            if len(positions) < size:
                break
        page = found[:limit]
        return [call for _, call in page], encode_cursor(page[-1][0]) if len(found) > limit else None

    def find_matching(self, wanted: CallFilter, most: int) -> set[tuple[str, str]]:
        """Returns the (tenant, call id) of the newest `most` calls that pass the filter, which has no status."""
        rows = self._database.query(*positions_query(wanted, None, most))
        return {(at.tenant, at.call_id) for at in map(position, rows)}

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
            for event in unique(self._events(f"(tenant, call_id) IN {literal(names)}", {}, None)):
                found.setdefault((event.tenant, event.call_id), []).append(event)
        return found

    def find_erased(self, calls: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Returns those of these calls (tenant, call id) that are erased or requested to be erased."""
        found: set[tuple[str, str]] = set()
        for start in range(0, len(calls), _CALLS_PER_QUERY):
            names = literal(list(calls[start : start + _CALLS_PER_QUERY]))
            rows = self._database.query(f"SELECT tenant, call_id FROM erased_calls WHERE (tenant, call_id) IN {names}")
            found |= {(str(row["tenant"]), str(row["call_id"])) for row in rows}
        return found

    def keep_current_hits(self, hits: Sequence[H]) -> list[H]:
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
            names = literal(list(calls[start : start + _CALLS_PER_QUERY]))
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

    def _calls_at(self, positions: Sequence[Position]) -> list[tuple[Position, CallDoc]]:
        """Returns each position with the document of its call."""
        calls: dict[tuple[str, str], CallDoc] = {}
        for start in range(0, len(positions), _CALLS_PER_QUERY):
            names = [(at.tenant, at.call_id) for at in positions[start : start + _CALLS_PER_QUERY]]
            events = self._events(f"(tenant, call_id) IN {literal(names)}", {}, None)
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
        lines = ledger_lines(self._database, list(by_call))
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
            WHERE (tenant, call_id) IN {literal(calls)} AND type = 'replay.part' AND outcome IN ('begun', 'failed')
            """
        )
        parts = [event for row in rows if isinstance(event := parse_event(str(row["event"])), ReplayedPart)]
        if not parts:
            return {}
        rows = self._database.query(
            f"""
            SELECT DISTINCT event FROM replays
            WHERE replay_id IN {literal(sorted({part.replay_id for part in parts}))} AND type = 'replay.command'
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
