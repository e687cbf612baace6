"""The sink between checkpoints: what is inserted, put off or refused."""

import uuid
from collections.abc import Sequence

import pytest
from pydantic import SecretStr
from quixstreams.sinks import SinkBackpressureError

from core.settings import ClickHouseSettings
from pipelines.runtime.clickhouse_sink import ClickHouseSink
from redpanda.client import LogUnavailableError
from schemas.events import AnyEvent, Event, StageFailed
from sinks.clickhouse.client import Database
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.rows import Row, event_row
from sinks.object_store import ObjectStoreError
from tests.sinks.clickhouse.telling import Call

NOWHERE = ClickHouseSettings(dsn=SecretStr("clickhouse://user:password@127.0.0.1:9/audiotext"))


class DeadLetters:
    """Dead letters as they are sent; `away` makes sending them fail."""

    def __init__(self) -> None:
        self.sent: list[StageFailed] = []
        self.away = False

    def __call__(self, letter: StageFailed) -> None:
        if self.away:
            raise LogUnavailableError("away")
        self.sent.append(letter)


def rows(event: AnyEvent) -> Sequence[Row]:
    return (event_row(event),)


def add(sink: ClickHouseSink, value: Event | bytes, offset: int = 0, topic: str = "call.events") -> None:
    content = value if isinstance(value, bytes) else value.model_dump_json().encode()
    sink.add(content, b"CA1", 1_764_000_000_000, [], topic, 0, offset)


@pytest.fixture
def call() -> Call:
    return Call("CA1", f"sink-{uuid.uuid4()}")


def test_a_checkpoint_waits_for_clickhouse() -> None:
    """ClickHouse is away: the flush asks Quix to come again, and keeps nothing, since Quix reads the records again.
    Swallowing the error would commit offsets of rows that are nowhere; keeping the records would insert them twice."""
    sink = ClickHouseSink("analytics", Database(NOWHERE), rows=rows, dead_letter=DeadLetters())
    add(sink, Call("CA1").started())

    with pytest.raises(SinkBackpressureError):
        sink.flush()

    sink.flush()  # nothing left that could fail


def test_a_store_that_is_away_holds_up_its_own_rows_only(clickhouse: ClickHouseSettings, call: Call) -> None:
    """Object storage is away, so segments cannot be had: the events of the checkpoint are in all the same, so that
    calls show as live and recorded meanwhile."""

    def away(_event: AnyEvent) -> Sequence[Row]:
        raise ObjectStoreError("away")

    sink = ClickHouseSink("analytics", Database(clickhouse), rows=rows, later_rows=away, dead_letter=DeadLetters())
    add(sink, call.started())

    with pytest.raises(SinkBackpressureError):
        sink.flush()

    assert CallStore(clickhouse).get_call(call.id, call.tenant) is not None


def test_a_record_that_is_no_event_becomes_one_dead_letter(clickhouse: ClickHouseSettings, call: Call) -> None:
    """Broken records lie among good ones: the good ones are inserted, each broken one becomes a dead letter that says
    where it lay and what was wrong. Told again it has the same id. A time no column can hold is such a record, too."""
    letters = DeadLetters()
    sink = ClickHouseSink("analytics", Database(clickhouse), rows=rows, dead_letter=letters)
    for _ in range(2):
        add(sink, b'{"type":"stream.started"}', offset=1)
        add(sink, call.started(), offset=2)
        add(sink, call.started().model_copy(update={"occurred_at_ms": -1}), offset=3)
        sink.flush()

    assert CallStore(clickhouse).get_call(call.id, call.tenant) is not None
    assert [letter.origin_offset for letter in letters.sent] == [1, 3, 1, 3]
    assert len({letter.event_id for letter in letters.sent}) == 2
    first = letters.sent[0]
    assert (first.stage, first.error_class, first.call_id) == ("analytics", "permanent", "CA1")
    assert "event_id: Field required" in first.error
    assert first.payload == '{"type":"stream.started"}'


def test_no_offset_is_committed_before_the_dead_letter_is_kept(clickhouse: ClickHouseSettings) -> None:
    """The log does not take the dead letter: the checkpoint waits, or the record would be gone without a trace."""
    letters = DeadLetters()
    letters.away = True
    sink = ClickHouseSink("usage", Database(clickhouse), rows=rows, dead_letter=letters)
    add(sink, b"{")

    with pytest.raises(SinkBackpressureError):
        sink.flush()


def test_a_broken_dead_letter_makes_no_other(clickhouse: ClickHouseSettings) -> None:
    """A dead letter that cannot be read would make another, which could not be read either, for ever."""
    letters = DeadLetters()
    sink = ClickHouseSink("analytics", Database(clickhouse), rows=rows, dead_letter=letters)
    add(sink, b"{", topic="dead.letters")

    sink.flush()

    assert letters.sent == []


def test_another_sinks_backpressure_drops_what_will_come_again(clickhouse: ClickHouseSettings, call: Call) -> None:
    """Quix tells every sink when one of them makes the checkpoint wait: its records come again."""
    sink = ClickHouseSink("analytics", Database(clickhouse), rows=rows, dead_letter=DeadLetters())
    add(sink, call.started())

    sink.on_paused()
    sink.flush()

    assert CallStore(clickhouse).get_call(call.id, call.tenant) is None
