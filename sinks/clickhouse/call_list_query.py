"""The list of calls: which ones, in what order, from where on. Builds the query; asks nothing itself."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from sinks.clickhouse.call_projection import NOT_EVIDENCE, Status
from sinks.clickhouse.phone_numbers import sql_fits, wanted_digits

_DAY_MS = 86_400_000
_CURSOR: Final = TypeAdapter(tuple[Annotated[int, Field(strict=True, ge=0, lt=2**63)], str, str])

# What a call's events must have for the call to have a status: true of all that have it, and of few others. The
# status itself is decided by `build_call`, the one place that knows. What many calls have (complete ones have all) must
# not be enough for a status that few have, or the list would look at every call there is.
_CAN_BE: Final[dict[Status, str]] = {
    "live": "(recordings = 0 OR last_stream > last_recording)",
    "recorded": "recordings > 0 AND transcripts < parts",
    "transcribed": "summaries < parts",
    "summarized": "summaries > 0 AND (embeddings < parts OR countIf(type = 'summary.ready'"
    " AND (tenant, concat('transcription_', JSONExtractString(event, 'transcript_id')))"
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
    """A cursor that no list gave out."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a call stands in the list: newest first, then by tenant and call id."""

    started_at_ms: int
    tenant: str
    call_id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls; None does not filter. See `CallStore.list_calls`."""

    tenant: str | None = None
    status: Status | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    query: str | None = None


def positions_query(wanted: Filter, after: Position | None, size: int) -> tuple[str, dict[str, object]]:
    """SQL and parameters that yield the next `size` positions as tenant, call_id, started_ms.

    They include every call that passes the filter, and may include calls of another status.
    A call started at the least of its events' `started_at`, which is what `build_call` says too.
    """
    where, parameters = conditions(
        ("tenant = {tenant:String}", "tenant", wanted.tenant),
        # Spares the months before: nothing of a call happens before it starts. The day is for a call that had gone on
        # before: its first stream's events must be seen, or it would look as if it had started later.
        (
            "occurred_at >= fromUnixTimestamp64Milli({horizon:Int64})",
            "horizon",
            max(0, wanted.since_ms - _DAY_MS) if wanted.since_ms is not None else None,
        ),
    )
    digits = wanted_digits(wanted.query or "")
    having, more = conditions(
        # A dead letter of a record that nobody could read names a call that there may never have been, and a carrier
        # tells of calls that are never streamed to us.
        (
            "max(type NOT IN {hearsay:Array(String)})",
            "hearsay",
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
        having = f"{having} AND {_CAN_BE[wanted.status]}" if having else f"HAVING {_CAN_BE[wanted.status]}"
    sql = f"""
        SELECT tenant, call_id, toUnixTimestamp64Milli(min(started_at)) AS started_ms{counts}
        FROM events {where or "WHERE true"} AND {NOT_ERASED} GROUP BY tenant, call_id {having}
        ORDER BY started_ms DESC, tenant, call_id LIMIT {{size:UInt32}}
    """
    return sql, parameters | more | {"size": size}


def _text_condition(digits: str) -> str:
    """The condition for calls whose id or numbers contain the query, or whose numbers have these digits, if any."""
    found = ["positionCaseInsensitiveUTF8(call_id, {query:String}) > 0"]
    for column in ("from_number", "to_number"):
        found.append(f"max(positionCaseInsensitiveUTF8({column}, {{query:String}})) > 0")
        if digits:
            found.append(f"max({sql_fits(column, '{digits:String}')})")
    return f"({' OR '.join(found)})"


def position(row: Mapping[str, object]) -> Position:
    """The position in a row of `positions_query`."""
    return Position(int(str(row["started_ms"])), str(row["tenant"]), str(row["call_id"]))


def conditions(*conditions: tuple[str, str, object | None], keyword: str = "WHERE") -> tuple[str, dict[str, object]]:
    """A clause of those conditions whose parameter is given, and the parameters. Each is (SQL, name, value)."""
    given = [(sql, name, value) for sql, name, value in conditions if value is not None]
    clause = " AND ".join(sql for sql, _, _ in given)
    return f"{keyword} {clause}" if clause else "", {name: value for _, name, value in given}


def encode_cursor(at: Position) -> str:
    """The position as an opaque word for a URL."""
    text = json.dumps([at.started_at_ms, at.tenant, at.call_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Position:
    """The position in a cursor. Raises InvalidCursorError."""
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return Position(*_CURSOR.validate_json(content))
    except ValueError:
        raise InvalidCursorError("not a cursor of this list") from None
