"""The ClickHouse sink between checkpoints: inserted, delayed and rejected records."""

import uuid
from collections.abc import Sequence

import pytest
from pydantic import SecretStr
from quixstreams.sinks import SinkBackpressureError

from core.settings import ClickHouseSettings
from pipelines.runtime.clickhouse_sink import ClickHouseSink
from redpanda.client import LogUnavailableError
from schemas.events import AnyEvent, Event, StageFailed
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import Row, event_row
from sinks.object_store import ObjectStoreError
from tests.support.call_events import Call

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
    """Stops ClickHouse. The flush must ask Quix to deliver again, and keep no records.

    To hide the error would commit offsets of rows that are not stored; to keep the records would insert them twice.
    """
    sink = ClickHouseSink("analytics", Database(NOWHERE), rows=rows, dead_letter=DeadLetters())
    add(sink, Call("CA1").started())

    with pytest.raises(SinkBackpressureError):
        sink.flush()

    sink.flush()  # nothing left that could fail


def test_a_store_that_is_away_holds_up_its_own_rows_only(clickhouse: ClickHouseSettings, call: Call) -> None:
    """Stops object storage, which has the segments. The events must be stored anyway, so that calls show as live."""

    def away(_event: AnyEvent) -> Sequence[Row]:
        raise ObjectStoreError("away")

    sink = ClickHouseSink("analytics", Database(clickhouse), rows=rows, later_rows=away, dead_letter=DeadLetters())
    add(sink, call.started())

    with pytest.raises(SinkBackpressureError):
        sink.flush()

    assert CallStore(clickhouse).get_call(call.id, call.tenant) is not None


def test_a_record_that_is_no_event_becomes_one_dead_letter(clickhouse: ClickHouseSettings, call: Call) -> None:
    """Puts invalid records between valid ones.

    The valid ones must be inserted, and each invalid one must become a dead letter with its offset and reason, with the
    same id each time. A time that no column can store makes a record invalid, too.
    """
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
    """Rejects the dead letter. The checkpoint must wait, or the record would be lost without a trace."""
    letters = DeadLetters()
    letters.away = True
    sink = ClickHouseSink("usage", Database(clickhouse), rows=rows, dead_letter=letters)
    add(sink, b"{")

    with pytest.raises(SinkBackpressureError):
        sink.flush()


def test_a_broken_dead_letter_makes_no_other(clickhouse: ClickHouseSettings) -> None:
    """Puts an invalid record on the dead-letter topic.

    It must not create another dead letter, which would be invalid too.
    """
    letters = DeadLetters()
    sink = ClickHouseSink("analytics", Database(clickhouse), rows=rows, dead_letter=letters)
    add(sink, b"{", topic="dead.letters")

    sink.flush()

    assert letters.sent == []


def test_another_sinks_backpressure_drops_what_will_come_again(clickhouse: ClickHouseSettings, call: Call) -> None:
    """Pauses the sink because another one waits. It must drop its records, because they are delivered again."""
    sink = ClickHouseSink("analytics", Database(clickhouse), rows=rows, dead_letter=DeadLetters())
    add(sink, call.started())

    sink.on_paused()
    sink.flush()

    assert CallStore(clickhouse).get_call(call.id, call.tenant) is None
