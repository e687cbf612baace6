"""Builds the queries that find calls: filter, order and position. Pure."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from schemas.usage_keys import UsageKey, UsageKind
from sinks.clickhouse.call_projection import NOT_EVIDENCE, CallDoc, Status
from sinks.clickhouse.phone_numbers import search_digits, sql_matches
from sinks.clickhouse.sql import conditions, literal

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


# As `build_call` does: the carrier of the first stream, else of the first recording; the audio of all parts.
_CARRIER: Final = """argMinIf(
    if(type IN ('stream.started', 'recording.ready'), JSONExtractString(event, 'carrier'), ''),
    (type != 'stream.started', occurred_at, event_id), type IN ('stream.started', 'recording.ready'))"""
_DURATION_MS: Final = """arraySum(mapValues(maxMapIf(
    map(part, if(type = 'recording.ready', JSONExtractUInt(event, 'duration_ms'), 0)), type = 'recording.ready')))"""


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Filter of calls; None does not filter.

    since_ms, until_ms: start of the call (ms since the epoch; since is included, until is not).
    query: part of the call id or of a number. number: number of a party, in any usual notation.
    min_ms, max_ms: audio of all parts, both included. words: each occurs in the current transcript or its summary, in
    any case and also within a longer word. calls: only these (tenant, call id).
    """

    tenant: str | None = None
    status: Status | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    query: str | None = None
    carrier: str | None = None
    number: str | None = None
    min_ms: int | None = None
    max_ms: int | None = None
    words: Sequence[str] = ()
    calls: Sequence[tuple[str, str]] | None = None

    @property
    def narrows(self) -> bool:
        """True if it filters by more than the tenant."""
        return self != CallFilter(self.tenant)

    def decided_by(self, call: CallDoc) -> bool:
        """True if the call passes the filters that `calls_query` does not decide alone."""
        return (
            self.status in (None, call.status)
            and (self.min_ms is None or call.duration_ms >= self.min_ms)
            and (self.max_ms is None or call.duration_ms <= self.max_ms)
        )


EVERY_CALL: Final = CallFilter()


def positions_query(wanted: CallFilter, after: Position | None, size: int) -> tuple[str, dict[str, object]]:
    """Returns SQL and parameters for the next `size` positions as tenant, call_id, started_ms; see `calls_query`."""
    sql, parameters = calls_query(wanted, after)
    return f"{sql} ORDER BY started_ms DESC, tenant, call_id LIMIT {{size:UInt32}}", parameters | {"size": size}


def calls_query(wanted: CallFilter, after: Position | None = None) -> tuple[str, dict[str, object]]:
    """Returns SQL and parameters for the calls that pass the filter, as tenant, call_id, started_ms.

    They include every call that passes the filter, and may include calls in another status. A call starts at the lowest
    `started_at` of its events, as in `build_call`.
    """
    # No event of a call occurs before its start. The extra day is for a call that was live at `since`: without the
    # events of its first stream it would seem to have started later.
    horizon_ms = max(0, wanted.since_ms - _DAY_MS) if wanted.since_ms is not None else None
    where, parameters = conditions(
        ("tenant = {tenant:String}", "tenant", wanted.tenant),
        ("occurred_at >= fromUnixTimestamp64Milli({horizon:Int64})", "horizon", horizon_ms),
        (_text_condition(wanted, horizon_ms), "words", list(wanted.words) or None),
        keyword="AND",
    )
    if wanted.calls is not None:
        where += f" AND (tenant, call_id) IN {literal(list(wanted.calls))}"
    digits, number_digits = search_digits(wanted.query or ""), search_digits(wanted.number or "")
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
        (
            f"(positionCaseInsensitiveUTF8(call_id, {{query:String}}) > 0 OR {_number_condition('query', digits)})",
            "query",
            wanted.query or None,
        ),
        (f"({_number_condition('number', number_digits)})", "number", wanted.number or None),
        (f"{_CARRIER} = {{carrier:String}}", "carrier", wanted.carrier),
        (f"{_DURATION_MS} >= {{min_ms:Int64}}", "min_ms", wanted.min_ms),
        (f"{_DURATION_MS} <= {{max_ms:Int64}}", "max_ms", wanted.max_ms),
        keyword="HAVING",
    )
    digit_parameters = {"query_digits": digits, "number_digits": number_digits}
    parameters |= more | {name: value for name, value in digit_parameters.items() if value}
    if after:
        parameters |= {"at_tenant": after.tenant, "at_call": after.call_id}
    counts = ""
    if wanted.status is not None:
        counts = _COUNTS
        having += f" AND {_STATUS_CONDITIONS[wanted.status]}"
    sql = f"""
        SELECT tenant, call_id, toUnixTimestamp64Milli(min(started_at)) AS started_ms{counts}
        FROM events WHERE {NOT_ERASED} {where} GROUP BY tenant, call_id {having}
    """
    return sql, parameters


def _number_condition(name: str, digits: str) -> str:
    """Returns the condition for calls of which a number contains the parameter `name`, or matches its digits."""
    found = []
    for column in ("from_number", "to_number"):
        found.append(f"max(positionCaseInsensitiveUTF8({column}, {{{name}:String}})) > 0")
        if digits:
            found.append(f"max({sql_matches(column, f'{{{name}_digits:String}}')})")
    return " OR ".join(found)


def _text_condition(wanted: CallFilter, horizon_ms: int | None) -> str:
    """Returns the condition for calls with all words in their current transcripts or the summaries of those.

    Looks at rows with one of the words first, since few rows have it.
    """
    tenant = "tenant = {tenant:String}" if wanted.tenant is not None else "true"
    horizon = "fromUnixTimestamp64Milli({horizon:Int64})"
    segments_since = f"call_started_at >= {horizon}" if horizon_ms is not None else "true"
    events_since = f"occurred_at >= {horizon}" if horizon_ms is not None else "true"
    every_word = " AND ".join(
        f"max(positionCaseInsensitiveUTF8(said, {{words:Array(String)}}[{number}])) > 0"
        for number in range(1, len(wanted.words) + 1)
    )
    return f"""(tenant, call_id) IN (
        SELECT tenant, call_id FROM (
            SELECT tenant, call_id, part, transcript_id, text AS said FROM segments
            WHERE {tenant} AND {segments_since} AND multiSearchAnyCaseInsensitiveUTF8(text, {{words:Array(String)}})
            UNION ALL
            SELECT
                tenant, call_id, part, JSONExtractString(event, 'transcript_id') AS transcript_id,
                arrayStringConcat(arrayConcat(
                    [JSONExtractString(event, 'abstract'), JSONExtractString(event, 'outcome')],
                    JSONExtract(event, 'key_points', 'Array(String)'),
                    JSONExtract(event, 'action_items', 'Array(String)'),
                    JSONExtract(event, 'topics', 'Array(String)')
                ), ' ') AS said
            FROM events
            WHERE type = 'summary.ready' AND {tenant} AND {events_since}
            AND multiSearchAnyCaseInsensitiveUTF8(event, {{words:Array(String)}})
        )
        WHERE (tenant, call_id, part, transcript_id) IN (
            SELECT tenant, call_id, part, transcript_id FROM current_transcripts WHERE {tenant}
        )
        GROUP BY tenant, call_id HAVING {every_word}
    )"""


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
