"""Queries of replays and erasures. Synchronous: use a thread if an event loop must not wait."""

import time
from collections.abc import Sequence

from core.settings import ClickHouseSettings
from schemas.events import CallErased, ErasureRequested, ReplayCommand, ReplayedPart, parse_event
from sinks.clickhouse.client import Database
from sinks.clickhouse.replay_projection import RATE_WINDOW_MS, Outcomes, ReplayDoc, build_replay, latest_run
from sinks.clickhouse.rows import erased_row, replay_row
from sinks.clickhouse.sql import conditions

LISTED = 200  # replays in a list (the newest)
NOTED = 1_000  # parts with notes in a list
_IDS_PER_QUERY = 100  # parameters are part of the URL, whose length is limited
# Waits for the mutation, so that rows are gone when `delete_call` returns.
_DELETED = "SETTINGS mutations_sync = 2"


class ReplayStore:
    """Queries of replays and erasures. Connects on first use. Thread-safe. Methods raise StoreUnavailableError."""

    def __init__(self, clickhouse: ClickHouseSettings | Database) -> None:
        """Does not connect yet. Raises StoreUnavailableError if no DSN is configured.

        Stores of one database share its connection.
        """
        self._database = Database.of(clickhouse)

    def list_replays(self, tenant: str | None, *, replay_id: str | None = None) -> list[ReplayDoc]:
        """Returns the latest replays, newest first, or the one with this id.

        tenant: only replays that this tenant requested; None = all.
        """
        commands = self.commands(tenant, replay_id=replay_id)
        outcomes = self._outcomes(list(commands))
        now_ms = time.time_ns() // 1_000_000
        return [build_replay(group, outcomes.get(name, Outcomes()), now_ms) for name, group in commands.items()]

    def get_replay(self, replay_id: str, tenant: str | None) -> ReplayDoc | None:
        """Returns the replay, or None if the tenant requested no such replay."""
        return next(iter(self.list_replays(tenant, replay_id=replay_id)), None)

    def commands(self, tenant: str | None, *, replay_id: str | None = None) -> dict[str, list[ReplayCommand]]:
        """Returns the commands of the latest replays, or of the one with this id, by replay, newest replay first."""
        where, parameters = conditions(
            ("tenant = {tenant:String}", "tenant", tenant), ("replay_id = {id:String}", "id", replay_id)
        )
        rows = self._database.query(
            f"""
            SELECT replay_id, min(occurred_at) AS began, groupUniqArray(event) AS commands
            FROM replays {where or "WHERE true"} AND type = 'replay.command'
            GROUP BY replay_id ORDER BY began DESC, replay_id LIMIT {LISTED}
            """,
            parameters,
        )
        return {str(row["replay_id"]): _commands(row["commands"]) for row in rows}

    def latest_run(self, replay_id: str) -> tuple[int, bool]:
        """Returns the replay's latest run that is stored here, and whether it was stopped."""
        return latest_run(self.commands(None, replay_id=replay_id).get(replay_id, ()))

    def put(self, event: ReplayCommand | ErasureRequested | CallErased) -> None:
        """Stores an event that is on the log already, so that its author finds it at once."""
        self._database.insert([replay_row(event) if isinstance(event, ReplayCommand) else erased_row(event)])

    def finished_parts(self, replay_id: str) -> list[ReplayedPart]:
        """Returns the parts that the replay has finished."""
        return self._parts("outcome != 'begun'", replay_id)

    def find_finished(self, part_ids: Sequence[str]) -> set[str]:
        """Returns those of these parts (event ids of `schemas.replays.outcome`) that are done or skipped."""
        found: set[str] = set()
        for start in range(0, len(part_ids), _IDS_PER_QUERY):
            rows = self._database.query(
                """
                SELECT event_id FROM replays FINAL
                WHERE type = 'replay.part' AND outcome IN ('done', 'skipped') AND has({ids:Array(String)}, event_id)
                """,
                {"ids": list(part_ids[start : start + _IDS_PER_QUERY])},
            )
            found |= {str(row["event_id"]) for row in rows}
        return found

    def parts_with_notes(self, replay_id: str) -> list[ReplayedPart]:
        """Returns the parts with notes: failed parts first, then by call and part."""
        return self._parts("JSONExtractString(event, 'note') != ''", replay_id, limit=NOTED)

    def _parts(self, condition: str, replay_id: str, limit: int = 2**31) -> list[ReplayedPart]:
        rows = self._database.query(
            f"""
            SELECT event FROM replays FINAL
            WHERE replay_id = {{id:String}} AND type = 'replay.part' AND {condition}
            ORDER BY outcome = 'failed' DESC, tenant, call_id, part LIMIT {limit}
            """,
            {"id": replay_id},
        )
        return [event for row in rows if isinstance(event := parse_event(str(row["event"])), ReplayedPart)]

    def is_erased(self, tenant: str, call_id: str) -> bool:
        """True if the call is erased or its erasure is requested."""
        rows = self._database.query(
            "SELECT 1 AS yes FROM erased_calls WHERE tenant = {tenant:String} AND call_id = {call:String} LIMIT 1",
            {"tenant": tenant, "call": call_id},
        )
        return bool(rows)

    def delete_call(self, tenant: str, call_id: str) -> None:
        """Deletes all rows of the call except its ledger lines, and returns once they are gone."""
        for table in ("events", "segments"):
            self._database.command(
                f"ALTER TABLE {table} DELETE WHERE tenant = {{tenant:String}} AND call_id = {{call:String}} {_DELETED}",
                {"tenant": tenant, "call": call_id},
            )

    def _outcomes(self, ids: Sequence[str]) -> dict[str, Outcomes]:
        rows = self._database.query(
            f"""
            SELECT replay_id, outcome, count() AS parts, toUnixTimestamp64Milli(max(occurred_at)) AS last_ms,
                   groupArrayIf(toUnixTimestamp64Milli(occurred_at),
                                occurred_at > now64(3, 'UTC') - INTERVAL {RATE_WINDOW_MS // 1000} SECOND) AS recent_ms,
                   groupArrayIf(toUnixTimestamp64Milli(occurred_at), outcome = 'failed') AS failed_ms,
                   countIf(JSONExtractBool(event, 'reused')) AS reused,
                   countIf(JSONExtractBool(event, 'switched')) AS switched
            FROM replays FINAL WHERE has({{ids:Array(String)}}, replay_id) AND type = 'replay.part'
            AND outcome != 'begun'
            GROUP BY replay_id, outcome
            """,
            {"ids": list(ids)},
        )
        found: dict[str, Outcomes] = {}
        for row in rows:
            before = found.get(str(row["replay_id"]), Outcomes())
            failed, recent = (_times(row[name]) for name in ("failed_ms", "recent_ms"))
            counts = {} if row["outcome"] == "failed" else {str(row["outcome"]): int(str(row["parts"]))}
            found[str(row["replay_id"])] = Outcomes(
                {**before.counts, **counts},
                (*before.failed_ms, *failed),
                max(before.last_ms, int(str(row["last_ms"]))),
                (*before.recent_ms, *recent),
                before.reused + int(str(row["reused"])),
                before.switched + int(str(row["switched"])),
            )
        return found


def _commands(stored: object) -> list[ReplayCommand]:
    events = [parse_event(str(event)) for event in stored] if isinstance(stored, list) else []
    return [event for event in events if isinstance(event, ReplayCommand)]


def _times(found: object) -> tuple[int, ...]:
    return tuple(int(at_ms) for at_ms in found) if isinstance(found, (list, tuple)) else ()
