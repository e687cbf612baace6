"""Events as rows: pure."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.artifacts import Segment, Transcript, Word
from schemas.events import Tokens
from sinks.clickhouse.rows import columns, event_row, ledger_row, segment_rows, values
from tests.support.call_events import T0, Call

CALL = Call("CA1")


def test_an_event_keeps_what_lists_and_views_look_for() -> None:
    """A stream's start becomes a row with its numbers and time; the event itself is kept whole."""
    event = CALL.started()

    row = event_row(event)

    assert (row.tenant, row.call_id, row.type, row.part) == ("acme", "CA1", "stream.started", 1)
    assert (row.occurred_at, row.started_at, row.from_number, row.to_number) == (T0, T0, "+4930111", "+4930222")
    assert type(event).model_validate_json(row.event) == event


def test_a_late_event_knows_when_its_call_started() -> None:
    """Results carry the call's start, so that a call stands at its place in the list before its first event is in."""
    assert event_row(CALL.transcript(at=65_000)).started_at == T0
    assert event_row(CALL.recording(at=61_000)).started_at == T0


def test_the_earlier_telling_takes_precedence() -> None:
    """ReplacingMergeTree keeps the row of the highest version: it must be the first telling, or a redelivery would
    change what is known."""
    assert event_row(CALL.recording(61_000)).precedence > event_row(CALL.recording(61_001)).precedence


def test_a_line_is_booked_on_the_day_of_the_call() -> None:
    """A call starts a moment before midnight (UTC) and is transcribed after: the line is the first day's."""
    midnight = 1_764_028_800_000  # 2025-11-25

    row = ledger_row(Call("CA1", t0=midnight - 1).usage())

    assert row.day == date(2025, 11, 24)
    assert ledger_row(Call("CA1", t0=midnight).usage()).day == date(2025, 11, 25)


@given(st.integers(-(10**30), 10**30))
def test_amounts_are_exact(millionths_of_millionths: int) -> None:
    """Any amount of up to twelve decimals goes into the ledger as it is: no float comes near it."""
    amount = Decimal(millionths_of_millionths).scaleb(-12)

    row = ledger_row(CALL.usage().model_copy(update={"price": amount}))

    assert row.price == amount


@pytest.mark.parametrize(
    "change",
    [
        {"occurred_at_ms": -1},
        {"occurred_at_ms": 10**15},
        {"part": -1},
        {"part": 1 << 32},
        {"units": 1 << 63},
        {"price": Decimal("1e40")},
        {"tokens": Tokens(prompt=-1)},
    ],
)
def test_what_a_column_cannot_hold_is_refused(change: dict[str, object]) -> None:
    """A number out of range is refused as this event's fault; let through, it would make the insert of everybody's
    rows fail, again and again."""
    with pytest.raises(ValueError, match=r"\d"):
        ledger_row(CALL.usage().model_copy(update=change))


def test_segments_keep_order_and_counts() -> None:
    """Two segments become two rows, numbered, with their words counted."""
    word = Word(start_ms=0, end_ms=10, text="hello", confidence=1)
    transcript = Transcript(
        call_id="CA1",
        language="en",
        duration_ms=60_000,
        provider="whisper",
        model="base",
        segments=[
            Segment(start_ms=0, end_ms=900, channel=0, speaker="inbound", text="hello there", words=[word, word]),
            Segment(start_ms=900, end_ms=1_500, channel=1, speaker="outbound", text="hello", words=[word]),
        ],
    )

    rows = segment_rows(CALL.transcript(), transcript)

    assert [(row.segment, row.speaker, row.text, row.words) for row in rows] == [
        (0, "inbound", "hello there", 2),
        (1, "outbound", "hello", 1),
    ]


def test_tokens_are_on_the_line() -> None:
    """What a language model counted, each kind in its column; a line of work without one has none."""
    tokens = Tokens(prompt=1, candidates=2, thoughts=3, cached=4)

    row = ledger_row(CALL.usage().model_copy(update={"tokens": tokens}))

    assert (row.prompt_tokens, row.answer_tokens, row.thought_tokens, row.cached_tokens) == (1, 2, 3, 4)
    assert ledger_row(CALL.usage()).prompt_tokens == 0


def test_values_follow_columns() -> None:
    """A row's values come in the order of its columns; otherwise they would be inserted crosswise."""
    row = ledger_row(CALL.usage())

    assert dict(zip(columns(type(row)), values(row), strict=True))["key"] == row.key
