"""Tests of docs/clickhouse.md: its reference against the schema, and its queries on calls with known answers."""

import re
import uuid
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.settings import ClickHouseSettings
from schemas.artifacts import Segment, Transcript
from schemas.events import AnyEvent, CallErased, SpeakerSentiment
from schemas.ids import uuid_of
from sinks.clickhouse.client import Database
from sinks.clickhouse.reference import MARKER, read_tables, reference
from sinks.clickhouse.rows import erased_row, segment_rows
from tests.support.call_events import T0, Call, insert

PAGE = (Path(__file__).parents[3] / "docs" / "clickhouse.md").read_text()
QUERIES = dict(re.findall(r"^### ([^\n]+)\n(?:(?!^#).)*?```sql\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
HOUR = 3_600_000


@pytest.fixture(scope="module")
def own(clickhouse: ClickHouseSettings) -> Database:
    """Returns a database with five calls of one day; every row is inserted twice.

    CA1 has one minute, with overlapping speech, and was transcribed again by another model. CA2 has two minutes, and a
    sentiment. CA3 failed, CA4 is live, CA5 is erased.
    """
    assert clickhouse.dsn is not None
    server = clickhouse.dsn.get_secret_value().rpartition("/")[0]
    database = Database(clickhouse.model_copy(update={"dsn": SecretStr(f"{server}/questions-{uuid.uuid4().hex[:8]}")}))
    first, second, third = Call("CA1"), Call("CA2", t0=T0 + 1_000), Call("CA3", t0=T0 + HOUR)
    live, erased = Call("CA4", t0=T0 + HOUR), Call("CA5", t0=T0)
    sentiment = [SpeakerSentiment(speaker="inbound", sentiment="positive")]
    replayed = {"transcript_id": uuid_of("better", "CA1"), "event_id": "replayed", "replay_id": "rp", "model": "large"}
    better = first.transcript(at=500_000).model_copy(update=replayed)
    events: list[AnyEvent] = [
        *first.complete(),
        first.usage(),
        better,
        first.usage(at=500_000).model_copy(
            update={"key": f"transcription_{better.transcript_id}", "replay_id": "rp", "model": "large", "units": 0}
        ),
        second.started(),
        second.ended(at=120_000),
        second.recording(at=123_000, end=120_000),
        second.transcript(at=129_000).model_copy(update={"language": "de"}),
        second.summary(at=130_000).model_copy(update={"sentiment": sentiment}),
        second.embedding(at=131_000),
        second.usage(price="0.02", cost="0.001", units=100).model_copy(update={"duration_ms": 120_000}),
        third.started(),
        third.ended(),
        third.recording(),
        third.failed("transcribe"),
        live.started(),
        *erased.complete(),
    ]
    spoken = [(0, 0, 10_000), (1, 12_000, 30_000), (0, 28_000, 40_000), (1, 55_000, 58_000)]
    for _ in range(2):
        insert(database, events)
        for transcript, turns in (
            (first.transcript(), [(0, 0, 60_000), (1, 0, 60_000)]),
            (better, spoken),
            (second.transcript(), [(1, 60_000, 90_000)]),
            (erased.transcript(), [(0, 0, 60_000)]),
        ):
            segments = [
                Segment(start_ms=at, end_ms=end, channel=channel, speaker=("inbound", "outbound")[channel], text="So.")
                for channel, at, end in turns
            ]
            content = Transcript(
                call_id="", language="en", duration_ms=0, provider="whisper", model="base", segments=segments
            )
            database.insert(segment_rows(transcript, content))
        database.insert([erased_row(CallErased(event_id="e", call_id="CA5", tenant="acme", occurred_at_ms=T0))])
    return database


DAY = date(2025, 11, 24)
# T0 is 16:00 UTC.
ANSWERS: dict[str, list[tuple[object, ...]]] = {
    "Calls per hour": [(datetime(2025, 11, 24, 16), 2), (datetime(2025, 11, 24, 17), 2)],
    "Average handling time": [(DAY, 3, 80.0)],
    # The replay adds a line with its cost and price, and no minute.
    "Cost and margin per day": [(DAY, "USD", 3.0, Decimal("0.002"), Decimal("0.04"), Decimal("0.038"))],
    "Duration of the stages, 95th percentile": [(3, 3.0, 6.0, 1.0, 2.0)],
    "Talk ratio": [("acme", "CA1", 0.512, 0.488), ("acme", "CA2", 0.0, 1.0)],
    # CA1: 0-10, 12-40 and 55-58 of 60 s; CA2: 60-90 of 120 s.
    "Silence": [("acme", "CA1", 1, 0.317), ("acme", "CA2", 1, 0.75)],
    "Longest hold": [("acme", "CA2", 60.0), ("acme", "CA1", 15.0)],
    "Overlap": [("acme", "CA1", 2.0)],
    "Failures by reason": [("transcribe", "transcribe cannot", 1)],
    "Sentiment and language": [("de", "positive", 1), ("en", "", 1)],
    "Missing audio": [
        ("acme", "CA1", "ended", 400, 0.0033),
        ("acme", "CA3", "ended", 400, 0.0033),
        ("acme", "CA2", "ended", 400, 0.0017),
    ],
}


@pytest.mark.parametrize("question", ANSWERS)
def test_the_queries_of_the_page_give_the_known_answers(own: Database, question: str) -> None:
    """Runs the query below the question's heading on the calls above and compares the rows.

    A failure means that an analyst who copies the query gets a wrong number.
    """
    rows = [tuple(row.values()) for row in own.query(QUERIES[question])]
    assert rows == ANSWERS[question]


def test_every_query_of_the_page_is_tested() -> None:
    """Compares the page's questions with the answers of this test."""
    assert list(QUERIES) == list(ANSWERS)


def test_the_page_describes_the_schema(own: Database) -> None:
    """Compares the reference in the page with the comments and types in the database.

    If it differs, run `python -m sinks.clickhouse.reference docs/clickhouse.md`.
    """
    assert MARKER + PAGE.partition(MARKER)[2] == reference(read_tables(own.query))


def test_everything_in_the_schema_is_described(own: Database) -> None:
    """Every table and view has a comment, and every column a sentence with an example."""
    tables = read_tables(own.query)
    assert {"events", "segments", "ledger", "calls", "parts", "current_segments"} <= {table.name for table in tables}
    assert not [table.name for table in tables if not table.comment.endswith(".")]
    assert not [
        f"{table.name}.{column.name}"
        for table in tables
        for column in table.columns
        if not column.example or not column.meaning.endswith(".")
    ]
