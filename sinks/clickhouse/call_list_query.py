"""Builds the query for the list of calls: filter, order and position. Pure."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from schemas.usage_keys import UsageKey, UsageKind
from sinks.clickhouse.call_projection import NOT_EVIDENCE, Status
from sinks.clickhouse.phone_numbers import search_digits, sql_matches
from sinks.clickhouse.sql import conditions

_DAY_MS = 86_400_000
_CURSOR: Final = TypeAdapter(tuple[Annotated[int, Field(strict=True, ge=0, lt=2**63)], str, str])

# Necessary conditions on a call's events for each status: true for all calls in the status and for few others. Only
# `build_call` decides the status itself. A condition for a rare status must not hold for most calls (complete calls
# have every event), or the list would read every call in the database.
_STATUS_CONDITIONS: Final[dict[Status, str]] = {
    "live": "(recordings = 0 OR last_stream > last_recording)",
    "recorded": "recordings > 0 AND transcripts < parts",
    "transcribed": "summaries < parts",
    "summarized": "summaries > 0 AND (embeddings < parts OR countIf(type = 'summary.ready'"
    f" AND (tenant, concat('{UsageKey(UsageKind.TRANSCRIPTION, '')}', JSONExtractString(event, 'transcript_id')))"
    " NOT IN (SELECT tenant, key FROM ledger)) > 0)",
    "complete": "summaries > 0 AND embeddings > 0",
    "failed": "failures > 0",
}
_COUNTS: Final = """,
    uniqExactIf(part, type IN ('recording.ready', 'transcript.ready', 'summary.ready', 'embedding.ready')) AS parts,
    uniqExactIf(part, type = 'recording.ready') AS recordings,
    uniqExactIf(part, type = 'transcript.ready') AS transcripts,
    uniqExactIf(part, type = 'summary.ready') AS summaries,
    uniqExactIf(part, type = 'embedding.ready') AS embeddings,
    countIf(type = 'stage.failed') AS failures,
    maxIf(started_at, type = 'stream.started') AS last_stream,
    maxIf(started_at, type = 'recording.ready') AS last_recording"""

NOT_ERASED: Final = "(tenant, call_id) NOT IN (SELECT tenant, call_id FROM erased_calls)"


class InvalidCursorError(ValueError):
    """Cursor that does not come from a list."""


@dataclass(frozen=True, slots=True)
class Position:
    """Position of a call in the list, which is ordered newest first, then by tenant and call id."""

    started_at_ms: int
    tenant: str
    call_id: str


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Filter of calls; None does not filter. See `CallStore.list_calls`."""

    tenant: str | None = None
    status: Status | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    query: str | None = None


def positions_query(wanted: CallFilter, after: Position | None, size: int) -> tuple[str, dict[str, object]]:
    """Returns SQL and parameters for the next `size` positions as tenant, call_id, started_ms.

    The positions include every call that passes the filter, and may include calls in another status. A call starts at
    the lowest `started_at` of its events, as in `build_call`.
    """
    where, parameters = conditions(
        ("tenant = {tenant:String}", "tenant", wanted.tenant),
        # Skips older partitions: no event of a call occurs before its start. The extra day is for a call that was live
        # at `since`: without the events of its first stream it would seem to have started later.
        (
            "occurred_at >= fromUnixTimestamp64Milli({horizon:Int64})",
            "horizon",
            max(0, wanted.since_ms - _DAY_MS) if wanted.since_ms is not None else None,
        ),
    )
    digits = search_digits(wanted.query or "")
    having, more = conditions(
        # A dead letter of an unreadable record names a call that may never have existed, and a carrier reports the
        # status of calls that are never streamed to us.
        (
            "max(type NOT IN {not_evidence:Array(String)})",
            "not_evidence",
            [kind.model_fields["type"].default for kind in NOT_EVIDENCE],
        ),
        ("started_ms >= {since:Int64}", "since", wanted.since_ms),
        ("started_ms < {until:Int64}", "until", wanted.until_ms),
        (
            "(-started_ms, tenant, call_id) > (-{at:Int64}, {at_tenant:String}, {at_call:String})",
            "at",
            after.started_at_ms if after else None,
        ),
        (_text_condition(digits), "query", wanted.query or None),
        keyword="HAVING",
    )
    if digits:
        more |= {"digits": digits}
    if after:
        more |= {"at_tenant": after.tenant, "at_call": after.call_id}
    counts = ""
    if wanted.status is not None:
        counts = _COUNTS
        having = (
            f"{having} AND {_STATUS_CONDITIONS[wanted.status]}"
            if having
            else f"HAVING {_STATUS_CONDITIONS[wanted.status]}"
        )
    sql = f"""
        SELECT tenant, call_id, toUnixTimestamp64Milli(min(started_at)) AS started_ms{counts}
        FROM events {where or "WHERE true"} AND {NOT_ERASED} GROUP BY tenant, call_id {having}
        ORDER BY started_ms DESC, tenant, call_id LIMIT {{size:UInt32}}
    """
    return sql, parameters | more | {"size": size}


def _text_condition(digits: str) -> str:
    """Returns the condition for calls whose id or numbers contain the query, or whose numbers match the digits."""
    found = ["positionCaseInsensitiveUTF8(call_id, {query:String}) > 0"]
    for column in ("from_number", "to_number"):
        found.append(f"max(positionCaseInsensitiveUTF8({column}, {{query:String}})) > 0")
        if digits:
            found.append(f"max({sql_matches(column, '{digits:String}')})")
    return f"({' OR '.join(found)})"


def position(row: Mapping[str, object]) -> Position:
    """Returns the position in a row of `positions_query`."""
    return Position(int(str(row["started_ms"])), str(row["tenant"]), str(row["call_id"]))


def encode_cursor(at: Position) -> str:
    """Returns the position as opaque text for a URL."""
    text = json.dumps([at.started_at_ms, at.tenant, at.call_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Position:
    """Returns the position in a cursor. Raises InvalidCursorError."""
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return Position(*_CURSOR.validate_json(content))
    except ValueError:
        raise InvalidCursorError("not a cursor of this list") from None
