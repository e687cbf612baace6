"""Converts events to rows of ClickHouse's tables. Pure. The fields of a row are its table's columns.

Times are integer ms since the epoch, as in DateTime64(3). A value that its column cannot hold raises ValueError here,
so that one invalid event cannot make the insert of a whole batch fail.
"""

from dataclasses import dataclass, fields
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import ClassVar

from schemas.artifacts import Transcript
from schemas.events import (
    NO_TOKENS,
    AnyEvent,
    CallErased,
    CallStatusReported,
    ErasureRequested,
    ReplayCommand,
    ReplayedPart,
    StreamStarted,
    TranscriptReady,
    UsageRecorded,
)
from sinks.clickhouse.call_projection import started_at_ms

_EPOCH = date(1970, 1, 1)
_DAY_MS = 86_400_000
_LATEST_MS = 7_258_118_400_000  # the year 2200: well inside DateTime64 and Date32
_UINT64_MAX = 2**64 - 1
# Digits and decimals of the ledger's amounts: Decimal(38, 12).
_MONEY = Context(prec=38, rounding=ROUND_HALF_EVEN)
_MONEY_STEP = Decimal("1e-12")


@dataclass(frozen=True, slots=True)
class EventRow:
    """Row of `events`."""

    table: ClassVar[str] = "events"

    tenant: str
    call_id: str
    type: str
    part: int
    event_id: str
    occurred_at: int
    started_at: int
    from_number: str
    to_number: str
    event: str
    precedence: int


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """Row of `segments`. segment: its index; times in ms from the recording's start; words: number of words."""

    table: ClassVar[str] = "segments"

    tenant: str
    call_id: str
    part: int
    transcript_id: str
    segment: int
    start_ms: int
    end_ms: int
    channel: int
    speaker: str
    text: str
    words: int
    call_started_at: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Row of `ledger`.

    units: 50 per minute; amounts in `currency`; tokens as the language model counted them; replay_id: the replay that
    caused the line.
    """

    table: ClassVar[str] = "ledger"

    tenant: str
    key: str
    day: date
    call_id: str
    part: int
    kind: str
    units: int
    duration_ms: int
    provider: str
    model: str
    provider_cost: Decimal
    price: Decimal
    currency: str
    call_started_at: int
    occurred_at: int
    precedence: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    thought_tokens: int = 0
    replay_id: str = ""


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """Row of `replays`."""

    table: ClassVar[str] = "replays"

    replay_id: str
    tenant: str
    call_id: str
    part: int
    type: str
    event_id: str
    outcome: str
    occurred_at: int
    event: str
    precedence: int


@dataclass(frozen=True, slots=True)
class ErasedRow:
    """Row of `erased_calls`."""

    table: ClassVar[str] = "erased_calls"

    tenant: str
    call_id: str
    erased_at: int


Row = EventRow | SegmentRow | LedgerRow | ReplayRow | ErasedRow


def columns(row_type: type[Row]) -> list[str]:
    """Returns the columns of a row type, in the order of `values`."""
    return [field.name for field in fields(row_type)]


def values(row: Row) -> list[object]:
    """Returns the row's values, in the order of `columns`."""
    return [getattr(row, name) for name in columns(type(row))]


def event_row(event: AnyEvent) -> EventRow:
    """Returns the row of an event. Raises ValueError for an invalid time."""
    named = event if isinstance(event, (StreamStarted, CallStatusReported)) else None
    return EventRow(
        tenant=event.tenant,
        call_id=event.call_id,
        type=event.type,
        part=_unsigned(event.part, 32, "part"),
        event_id=event.event_id,
        occurred_at=_time(event.occurred_at_ms),
        started_at=_time(started_at_ms(event)),
        from_number=named.from_number if named else "",
        to_number=named.to_number if named else "",
        event=event.model_dump_json(),
        # An event that a replay repeats ranks just after the original.
        precedence=_precedence(event.occurred_at_ms) - bool(event.replay_id),
    )


def replay_row(event: ReplayCommand | ReplayedPart) -> ReplayRow:
    """Returns the row of a replay's event. Raises ValueError.

    Of a part's events the one with the best outcome is kept: done or skipped, else the event of the latest run, failed
    before begun.
    """
    outcome = event.outcome if isinstance(event, ReplayedPart) else ""
    return ReplayRow(
        replay_id=event.replay_id,
        tenant=event.tenant,
        call_id=event.call_id if isinstance(event, ReplayedPart) else "",
        part=_unsigned(event.part, 32, "part"),
        type=event.type,
        event_id=event.event_id,
        outcome=outcome,
        occurred_at=_time(event.occurred_at_ms),
        event=event.model_dump_json(),
        precedence=_part_precedence(event) if isinstance(event, ReplayedPart) else _precedence(event.occurred_at_ms),
    )


def _part_precedence(event: ReplayedPart) -> int:
    if event.outcome in ("begun", "failed"):
        return 2 * event.run + (event.outcome == "failed")
    return _precedence(event.occurred_at_ms)


def erased_row(event: ErasureRequested | CallErased) -> ErasedRow:
    """Returns the row that hides a call. Raises ValueError."""
    return ErasedRow(event.tenant, event.call_id, _time(event.occurred_at_ms))


def segment_rows(event: TranscriptReady, transcript: Transcript) -> list[SegmentRow]:
    """Returns the rows of the transcript that the event announces. Raises ValueError for numbers out of range."""
    return [
        SegmentRow(
            tenant=event.tenant,
            call_id=event.call_id,
            part=_unsigned(event.part, 32, "part"),
            transcript_id=event.transcript_id,
            segment=index,
            start_ms=_unsigned(segment.start_ms, 32, "start_ms"),
            end_ms=_unsigned(segment.end_ms, 32, "end_ms"),
            channel=_unsigned(segment.channel, 8, "channel"),
            speaker=segment.speaker,
            text=segment.text,
            words=_unsigned(len(segment.words), 16, "words"),
            call_started_at=_time(event.call_started_at_ms),
        )
        for index, segment in enumerate(transcript.segments)
    ]


def ledger_row(event: UsageRecorded) -> LedgerRow:
    """Returns the ledger line. Raises ValueError for an invalid time or amount."""
    started = _time(event.call_started_at_ms)
    tokens = event.tokens or NO_TOKENS
    return LedgerRow(
        tenant=event.tenant,
        key=event.key,
        day=_EPOCH + timedelta(days=started // _DAY_MS),
        call_id=event.call_id,
        part=_unsigned(event.part, 32, "part"),
        kind=event.kind,
        units=_signed(event.units, "units"),
        duration_ms=_signed(event.duration_ms, "duration_ms"),
        provider=event.provider,
        model=event.model,
        provider_cost=_money(event.provider_cost),
        price=_money(event.price),
        currency=event.currency,
        call_started_at=started,
        occurred_at=_time(event.occurred_at_ms),
        # A line that a replay repeats does not replace the original.
        precedence=_precedence(event.occurred_at_ms) - bool(event.replay_id),
        prompt_tokens=_unsigned(tokens.prompt, 64, "tokens.prompt"),
        cached_tokens=_unsigned(tokens.cached, 64, "tokens.cached"),
        answer_tokens=_unsigned(tokens.candidates, 64, "tokens.candidates"),
        thought_tokens=_unsigned(tokens.thoughts, 64, "tokens.thoughts"),
        replay_id=event.replay_id,
    )


def _precedence(occurred_at_ms: int) -> int:
    """Returns the version for ReplacingMergeTree, which keeps the highest: earlier events get higher versions."""
    return _UINT64_MAX - occurred_at_ms


def _time(ms: int) -> int:
    if not 0 <= ms < _LATEST_MS:
        raise ValueError(f"{ms} ms since the epoch is not a valid time for a call")
    return ms


def _unsigned(value: int, bits: int, name: str) -> int:
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} is out of range: {value}")
    return value


def _signed(value: int, name: str) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{name} is out of range: {value}")
    return value


def _money(amount: Decimal) -> Decimal:
    try:
        return amount.quantize(_MONEY_STEP, context=_MONEY)
    except InvalidOperation:
        raise ValueError(f"{amount} is not an amount that the ledger can hold") from None
