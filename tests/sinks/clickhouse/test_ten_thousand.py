"""10,000 calls, told three times over through the sinks as they run: no number changes."""

import random
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import get_args

import pytest

from core.settings import ClickHouseSettings
from pipelines import analytics
from pipelines.billing import ledger
from pipelines.runtime.clickhouse_sink import ClickHouseSink
from schemas.artifacts import Segment, Transcript
from schemas.events import AnyEvent, ObjectRef
from schemas.ids import sha256_hex
from schemas.topics import Topic
from sinks.clickhouse.call_list_query import CallFilter
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.usage_queries import GroupBy, UsageStore
from sinks.object_store import ObjectStore
from tests.support.call_events import T0, Call

CALLS = 10_000
SAID = Transcript(
    call_id="",
    language="en",
    duration_ms=60_000,
    provider="whisper",
    model="base",
    segments=[
        Segment(start_ms=0, end_ms=1_500, channel=0, speaker="inbound", text="Good morning."),
        Segment(start_ms=1_700, end_ms=4_000, channel=1, speaker="outbound", text="Good morning to you."),
    ],
)
CONTENT = SAID.model_dump_json().encode()
STORED = ObjectRef(key="transcript.json", sha256=sha256_hex(CONTENT), size=len(CONTENT))


class Shelf(ObjectStore):
    """Object storage that has one transcript, at hand: 30,000 requests would take a minute and prove nothing here."""

    def __init__(self) -> None:
        """Connects to nothing."""

    def get(self, key: str) -> bytes:
        assert key == STORED.key
        return CONTENT


def told(sink: ClickHouseSink, topic: Topic, records: Sequence[tuple[str, bytes]], checkpoint: int) -> None:
    """Hands the records to the sink as Quix does, a checkpoint after so many."""
    for offset, (key, value) in enumerate(records):
        sink.add(value, key.encode(), T0, [], topic, 0, offset)
        if (offset + 1) % checkpoint == 0:
            sink.flush()
    sink.flush()


@pytest.fixture
def unmerged(clickhouse: ClickHouseSettings) -> Iterator[Database]:
    """The engine, merging nothing: what was told again stays beside what was told before."""
    database = Database(clickhouse)
    database.command("SYSTEM STOP MERGES")
    yield database
    database.command("SYSTEM START MERGES")


@pytest.mark.timeout(240)
def test_ten_thousand_calls_told_three_times_change_no_number(
    clickhouse: ClickHouseSettings, unmerged: Database
) -> None:
    """What does this test do? Tells all events and the line of 10,000 calls to the sinks of analytics and usage, asks
    for everything the API and the dashboards show, tells all of it again twice, in other orders and other batches, and
    asks again before any merge.

    Every answer must be the same to the digit. A number that grew would be a minute charged twice, or a call that was
    counted twice in somebody's report; and a number that only comes right once ClickHouse has merged is wrong until
    then.
    """
    tenant = f"tenant-{uuid.uuid4()}"
    database, store, usage = unmerged, CallStore(unmerged), UsageStore(unmerged)

    def refuse(letter: object) -> None:
        raise AssertionError(letter)

    events = ClickHouseSink(
        "analytics", database, rows=analytics.rows, later_rows=analytics.SegmentReader(Shelf()).rows, dead_letter=refuse
    )
    lines = ClickHouseSink("usage", database, rows=ledger.rows, dead_letter=refuse)
    happened: list[AnyEvent] = []
    charged: list[AnyEvent] = []
    for n in range(CALLS):
        call = Call(f"CA{n:05}", tenant, t0=T0 + n * 60_000)
        of_call = call.complete()
        of_call[3] = call.transcript(ref=STORED)
        happened += of_call
        charged.append(call.usage(cost="0.000123456789", price="0.0101", units=n))
    happening = [(event.call_id, event.model_dump_json().encode()) for event in happened]
    charging = [(event.call_id, event.model_dump_json().encode()) for event in charged]

    def answers() -> list[object]:
        mine: dict[str, object] = {"tenant": tenant}
        return [
            store.list_calls(CallFilter(tenant=tenant), limit=200),
            store.list_calls(CallFilter(tenant=tenant, until_ms=T0 + CALLS // 2 * 60_000), limit=200),
            *(usage.sums(tenant=tenant, group_by=group) for group in (None, *get_args(GroupBy))),
            *(
                database.query(f"SELECT count(), sum(cityHash64(*)) FROM {view} WHERE tenant = {{tenant:String}}", mine)
                for view in ("calls", "stage_latencies", "usage_daily")
            ),
            database.query(
                "SELECT speaker, count(), sum(end_ms - start_ms), sum(words), uniqExact(call_id) FROM segments FINAL "
                "WHERE tenant = {tenant:String} GROUP BY speaker ORDER BY speaker",
                mine,
            ),
            database.query(
                "SELECT type, count(), uniqExact(call_id) FROM events FINAL WHERE tenant = {tenant:String} "
                "GROUP BY type ORDER BY type",
                mine,
            ),
        ]

    told(events, Topic.CALL_EVENTS, happening, 20_000)
    told(lines, Topic.USAGE_RECORDED, charging, 10_000)
    before = answers()
    for again, checkpoint in ((1, 17_000), (2, 25_000)):
        random.Random(again).shuffle(happening)
        random.Random(again).shuffle(charging)
        told(events, Topic.CALL_EVENTS, happening, checkpoint)
        told(lines, Topic.USAGE_RECORDED, charging, checkpoint // 5)
    assert answers() == before

    (total,) = usage.sums(tenant=tenant)
    assert (total.lines, total.units) == (CALLS, sum(range(CALLS)))
    assert Decimal(total.provider_cost) == Decimal("0.000123456789") * CALLS
    assert Decimal(total.price) == Decimal("0.0101") * CALLS
    assert Decimal(total.margin) == Decimal(total.price) - Decimal(total.provider_cost)
    (row,) = database.query("SELECT count() AS calls FROM calls WHERE tenant = {tenant:String}", {"tenant": tenant})
    assert row == {"calls": CALLS}
