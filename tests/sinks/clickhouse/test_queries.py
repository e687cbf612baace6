"""What the API asks, against a real engine. Each test has tenants of its own: the engine is shared."""

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.settings import ClickHouseSettings
from schemas.events import AnyEvent, LetterReplayed, Tokens, UsageRecorded
from sinks.clickhouse.call_list_query import CallFilter, positions_query
from sinks.clickhouse.call_projection import CallDoc, Status, build_call
from sinks.clickhouse.client import Database
from sinks.clickhouse.queries import ApiKey, CallStore, GroupBy
from sinks.clickhouse.rows import event_row, ledger_row
from tests.support.call_events import T0, Call, line_of

HOUR = 3_600_000


@pytest.fixture(scope="module")
def database(clickhouse: ClickHouseSettings) -> Database:
    return Database(clickhouse)


@pytest.fixture(scope="module")
def store(clickhouse: ClickHouseSettings) -> CallStore:
    return CallStore(clickhouse)


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid.uuid4()}"


def insert(database: Database, events: Sequence[AnyEvent]) -> None:
    """As the services do: usage into the ledger, all else into events."""
    database.insert([ledger_row(event) if isinstance(event, UsageRecorded) else event_row(event) for event in events])


def pages(store: CallStore, tenant: str, limit: int) -> list[list[str]]:
    """Ids on every page of the list."""
    result: list[list[str]] = []
    cursor: str | None = None
    while True:
        calls, cursor = store.list_calls(tenant=tenant, limit=limit, cursor=cursor)
        result.append([call.id for call in calls])
        if cursor is None:
            return result


def test_a_call_is_found_with_its_bill(database: Database, store: CallStore, tenant: str) -> None:
    """A call's events and its line are inserted, in two goes, the later ones first: the document is the one its events
    tell, with the line."""
    call = Call("CA1", tenant)
    insert(database, [*call.complete()[3:], call.usage()])
    insert(database, call.complete()[:3])

    found = store.get_call("CA1", tenant)

    assert found is not None
    assert found == build_call(call.complete(), [line_of(call.usage())])
    assert found.status == "complete"
    assert [(line.units, line.provider_cost, line.price) for line in found.usage] == [(50, "0.0005", "0.01")]


def test_a_tenant_sees_only_its_own(database: Database, store: CallStore, tenant: str) -> None:
    """Two tenants have a call of the same id: each gets its own, in every answer; who sees all gets the newer one.
    Anything else would show somebody's call to somebody else."""
    other = f"{tenant}-other"
    shared_id = f"CA-{tenant}"
    mine, theirs = Call(shared_id, tenant), Call(shared_id, other, t0=T0 + HOUR)
    insert(database, [*mine.complete(), mine.usage(), *theirs.complete(), theirs.usage()])

    for seen_by, whose in ((tenant, tenant), (other, other), (None, other)):
        found = store.get_call(shared_id, seen_by)
        assert found is not None
        assert found.tenant == whose
    assert {event["tenant"] for event in store.events(shared_id, tenant)} == {tenant}
    assert [call.tenant for call in store.list_calls(tenant=tenant)[0]] == [tenant]
    assert [row.lines for row in store.usage(tenant=tenant)] == [1]
    assert store.get_call(shared_id, "nobody") is None
    assert store.events(shared_id, "nobody") == []


def test_events_come_in_order_and_once(database: Database, store: CallStore, tenant: str) -> None:
    """Events inserted backwards and twice are answered once each, as they came true."""
    call = Call("CA1", tenant)
    insert(database, [*reversed(call.complete()), *call.complete()])

    assert [event["type"] for event in store.events("CA1", tenant)] == [
        "stream.started",
        "stream.ended",
        "recording.ready",
        "transcript.ready",
        "summary.ready",
        "embedding.ready",
    ]


def test_pages_do_not_move_when_calls_come_in(database: Database, store: CallStore, tenant: str) -> None:
    """Reads a first page, inserts a newer call and repeats an older one, then reads on: the second page goes on where
    the first ended. Calls that started in the same millisecond are on one page each."""
    insert(database, [Call(f"CA{n}", tenant, t0=T0 + min(n, 4) * HOUR).started() for n in range(7)])
    assert pages(store, tenant, 3) == [["CA4", "CA5", "CA6"], ["CA3", "CA2", "CA1"], ["CA0"]]

    first, cursor = store.list_calls(tenant=tenant, limit=3)
    insert(database, [Call("CA9", tenant, t0=T0 + 9 * HOUR).started(), Call("CA3", tenant, t0=T0 + 3 * HOUR).started()])
    second, _ = store.list_calls(tenant=tenant, limit=3, cursor=cursor)

    assert [call.id for call in first] == ["CA4", "CA5", "CA6"]
    assert [call.id for call in second] == ["CA3", "CA2", "CA1"]


def test_the_list_is_narrowed_by_time_and_text(database: Database, store: CallStore, tenant: str) -> None:
    """since is included, until is not; text is looked for in the id and both numbers, whatever its case; signs that
    mean something elsewhere are only signs."""
    insert(
        database, [Call(name, tenant, t0=T0 + n * HOUR).started() for n, name in enumerate(("CAx", "CAy_%'", "CAz"))]
    )

    def ids(**wanted: int | str) -> list[str]:
        calls, _ = store.list_calls(tenant=tenant, **wanted)  # type: ignore[arg-type]  # keywords by name
        return [call.id for call in calls]

    assert ids(since_ms=T0 + HOUR, until_ms=T0 + 2 * HOUR) == ["CAy_%'"]
    assert ids(query="cAX") == ["CAx"]
    assert ids(query="_%'") == ["CAy_%'"]
    assert ids(query="4930222") == ["CAz", "CAy_%'", "CAx"]
    assert ids(query="{query:String}") == []
    assert ids(query="+49 (30) 222") == ["CAz", "CAy_%'", "CAx"]
    assert ids(query="0049 30 111") == ["CAz", "CAy_%'", "CAx"]
    assert ids(query="+49 30 223") == []


def test_a_call_is_found_by_a_number_that_only_a_webhook_named(
    database: Database, store: CallStore, tenant: str
) -> None:
    """Looks for a call whose stream named nobody: it is found by the number of its voice request."""
    call = Call("CA1", tenant)
    silent = call.started().model_copy(update={"from_number": "", "to_number": ""})
    report = call.reported("voice-request").model_copy(update={"from_number": "+15550100123", "over": False})
    insert(database, [silent, report])
    (found,), _ = store.list_calls(tenant=tenant, query="(555) 010-0123")
    assert found.from_number == "+15550100123"
    assert store.list_calls(tenant=tenant, query="(555) 010-0124")[0] == []


def test_a_call_that_went_on_before_keeps_its_start(database: Database, store: CallStore, tenant: str) -> None:
    """A call started before `since`, its second stream after: it did not start since."""
    call = Call("CA1", tenant)
    insert(database, [call.started(), call.started(2 * HOUR, "MZ2")])

    assert store.list_calls(tenant=tenant, since_ms=T0 + HOUR) == ([], None)


def test_every_status_finds_its_calls(database: Database, store: CallStore, tenant: str) -> None:
    """Inserts every combination of results over two parts, failures and second streams, asks for each status, two calls
    a page: together the answers are all calls, each once, under the status its document has. A call that the query
    missed would be in no list."""
    calls = combinations(tenant)
    insert(database, [event for events in calls.values() for event in events])
    expected = {status: {id_ for id_, events in calls.items() if status_of(events) == status} for status in STATUSES}
    assert all(expected.values())

    for status in STATUSES:
        found: list[CallDoc] = []
        cursor: str | None = None
        while True:
            page, cursor = store.list_calls(tenant=tenant, limit=40, cursor=cursor, status=status)
            found += page
            if cursor is None:
                break
        assert len(found) == len(expected[status])
        assert {call.id for call in found} == expected[status]


def test_a_rare_status_is_found_without_looking_at_every_call(database: Database, tenant: str) -> None:
    """Three hundred complete calls, one whose line of the bill is missing and one without vectors: the query for
    summarized calls yields those two only. If it yielded all that have a summary, the list would build every call
    there is: 3 s at 5,000 calls."""
    calls = [Call(f"CA{n}", tenant, t0=T0 + n * 1000) for n in range(300)]
    insert(database, [event for call in calls for event in (*call.complete(), call.usage())])
    unbilled, unembedded = Call("unbilled", tenant), Call("unembedded", tenant)
    insert(database, [*unbilled.complete(), *unembedded.complete()[:-1], unembedded.usage()])

    rows = database.query(*positions_query(CallFilter(tenant=tenant, status="summarized"), None, 500))

    assert {row["call_id"] for row in rows} == {"unbilled", "unembedded"}


STATUSES: tuple[Status, ...] = get_args(Status)


def status_of(events: Sequence[AnyEvent]) -> Status:
    lines = [line_of(event) for event in events if isinstance(event, UsageRecorded)]
    return build_call((event for event in events if not isinstance(event, UsageRecorded)), lines).status


def combinations(tenant: str) -> dict[str, list[AnyEvent]]:
    """Calls by id: any progress of part 1, any of part 2 or none, a failure or none, a stream that goes on or none."""

    def progress(call: Call, part: int) -> list[list[AnyEvent]]:
        at = (part - 1) * 100_000
        recording = call.recording(at + 61_000, part, start=at, end=at + 60_000)
        transcript, summary = call.transcript(at + 65_000, part), call.summary(at + 66_000, part)
        embedding, usage = call.embedding(at + 66_000, part), call.usage(part=part)
        return [
            [],
            [recording],
            [recording, transcript],
            [recording, transcript, embedding],
            [recording, transcript, summary],
            [recording, transcript, summary, embedding],
            [recording, transcript, summary, embedding, usage],
        ]

    calls: dict[str, list[AnyEvent]] = {}
    for first in range(7):
        for second in range(7):
            for stage in ("", "transcribe", "embed"):
                for goes_on in (False, True):
                    call = Call(f"CA-{first}-{second}-{stage}-{goes_on}", tenant, t0=T0 + len(calls) * 1000)
                    calls[call.id] = [
                        call.started(),
                        *progress(call, 1)[first],
                        *progress(call, 2)[second],
                        *([call.failed(stage, part=2)] if stage else []),
                        *([call.started(300_000, "MZ2")] if goes_on else []),
                    ]
    return calls


def test_minutes_count_each_recording_once(database: Database, store: CallStore, tenant: str) -> None:
    """A call of two parts with lines for transcription, summary and embedding; the first part is transcribed again by
    another model of another provider. Every grouping must say two minutes in all, on the lines of the first
    transcriptions, while units, cost and price are those of every line. More minutes would mean that a replay, or a
    language model, makes the same audio count again."""
    call = Call("CA1", tenant)
    better = call.usage(cost="0.002", price="0.01", units=50).model_copy(
        update={"key": "transcription_a", "provider": "soniox", "model": "large", "replay_id": "rp-1"}
    )
    summary = call.usage(cost="0.001", price="0.02", units=0).model_copy(
        update={"key": "summary_a", "kind": "summary", "provider": "gemini"}
    )
    embedding = summary.model_copy(update={"key": "embedding_a", "kind": "embedding"})
    insert(database, [better, embedding, summary, call.usage(), call.usage(part=2), better])

    (row,) = store.usage(tenant=tenant)
    assert (row.lines, row.units, row.provider_cost, row.price) == (5, 150, "0.005", "0.07")
    assert (row.duration_ms, row.minutes) == (120_000, "2.000")
    minutes = {
        group: {row.group: row.minutes for row in store.usage(tenant=tenant, group_by=group)}
        for group in get_args(GroupBy)
    }
    assert minutes == {
        "day": {"2025-11-24": "2.000"},
        "tenant": {tenant: "2.000"},
        "provider": {"gemini": "0.000", "soniox": "0.000", "whisper": "2.000"},
        "kind": {"embedding": "0.000", "summary": "0.000", "transcription": "2.000"},
        "call": {"CA1": "2.000"},
    }
    daily = database.query(
        "SELECT sum(duration_ms) AS ms FROM usage_daily WHERE tenant = {tenant:String}", {"tenant": tenant}
    )
    assert daily == [{"ms": 120_000}]
    assert store.usage(tenant=tenant, to_ms=call.t0) == []


def test_a_line_that_a_replay_repeats_stays_as_it_was(database: Database, store: CallStore, tenant: str) -> None:
    """A replay with the old settings tells of the live call's line again, with its own id, before and after it: the
    line stays that of the call as it came in."""
    call = Call("CA1", tenant)
    again = call.usage().model_copy(update={"replay_id": "rp-1"})
    insert(database, [again])
    insert(database, [call.usage()])
    insert(database, [again])
    insert(database, call.complete())

    found = store.get_call("CA1", tenant)

    assert found is not None
    assert [(line.replay_id, line.provider, line.model) for line in found.usage] == [("", "whisper", "base")]


def test_a_line_told_again_with_another_price_stays_as_it_was(
    database: Database, store: CallStore, tenant: str
) -> None:
    """A replay after the price list changed tells a line of the same key with another price, another day and later:
    the bill does not change, also after the table was merged. The same key is charged once, at its first price."""
    call = Call("CA1", tenant)
    again = call.usage(price="99", at=999_000).model_copy(update={"call_started_at_ms": T0 + 40 * 24 * HOUR})
    insert(database, [again])
    insert(database, [call.usage().model_copy(update={"tokens": Tokens(prompt=7)})])
    insert(database, [again])

    unmerged = store.usage(tenant=tenant, group_by="day")
    database.query("OPTIMIZE TABLE ledger FINAL")

    assert [(row.group, row.price, row.lines) for row in unmerged] == [("2025-11-24", "0.01", 1)]
    assert store.usage(tenant=tenant, group_by="day") == unmerged
    rows = database.query("SELECT prompt_tokens FROM ledger FINAL WHERE tenant = {tenant:String}", {"tenant": tenant})
    assert rows == [{"prompt_tokens": 7}]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12), min_size=1, max_size=6
    )
)
def test_the_bill_is_the_sum_over_distinct_lines(
    database: Database, store: CallStore, batches: list[list[tuple[int, int]]]
) -> None:
    """Ten lines, told any number of times in any batches, the later tellings at other prices: every aggregate equals
    the sum over distinct lines at the earliest telling that was inserted. One counted twice, or at a later price,
    would be a wrong bill."""
    tenant = f"tenant-{uuid.uuid4()}"
    earliest: dict[int, int] = {}
    for batch in batches:
        insert(
            database,
            [
                Call(f"CA{n}", tenant).usage(price=f"{n + 1}.00{telling}", units=n + telling, at=65_000 + telling)
                for n, telling in batch
            ],
        )
        for n, telling in batch:
            earliest[n] = min(telling, earliest.get(n, telling))

    price = sum(Decimal(f"{n + 1}.00{telling}") for n, telling in earliest.items())
    for group in get_args(GroupBy):
        rows = store.usage(tenant=tenant, group_by=group)
        assert sum(row.lines for row in rows) == len(earliest)
        assert sum(row.units for row in rows) == sum(n + telling for n, telling in earliest.items())
        assert sum(Decimal(row.price) for row in rows) == price
    [daily] = database.query(
        "SELECT sum(lines) AS told, sum(price) AS charged FROM usage_daily WHERE tenant = {tenant:String}",
        {"tenant": tenant},
    )
    assert (daily["told"], Decimal(str(daily["charged"]))) == (len(earliest), price)


def test_the_bill_never_adds_currencies_and_keeps_to_its_time(
    database: Database, store: CallStore, tenant: str
) -> None:
    """Lines in two currencies on two days: each group is split by currency, in a stable order; from is included, to is
    not; where nothing was charged there is no row."""
    insert(
        database,
        [
            Call("CA1", tenant).usage(),
            Call("CA2", tenant).usage(price="5", cost="7", currency="EUR"),
            Call("CA3", tenant, t0=T0 + 24 * HOUR).usage(),
        ],
    )

    rows = store.usage(tenant=tenant, group_by="day", to_ms=T0 + 24 * HOUR)

    assert [(row.group, row.currency, row.price, row.margin) for row in rows] == [
        ("2025-11-24", "EUR", "5", "-2"),
        ("2025-11-24", "USD", "0.01", "0.0095"),
    ]
    assert [row.minutes for row in store.usage(tenant=tenant, from_ms=T0 + 24 * HOUR)] == ["1.000"]
    assert store.usage(tenant=tenant, from_ms=T0 + 25 * HOUR) == []


def test_a_dead_letter_alone_is_no_call(database: Database, store: CallStore, tenant: str) -> None:
    """A record nobody could read made a dead letter naming a call that never was, and somebody replayed it: it is in
    no list, and no call."""
    letter = Call("CA1", tenant).failed("analytics")
    replayed = LetterReplayed(
        event_id=f"replayed-{tenant}",
        call_id="CA1",
        tenant=tenant,
        occurred_at_ms=letter.occurred_at_ms,
        letter_id=letter.event_id,
    )
    insert(database, [letter, replayed])

    assert store.list_calls(tenant=tenant) == ([], None)
    assert store.get_call("CA1", tenant) is None
    assert len(store.events("CA1", tenant)) == 2


def test_a_call_that_was_never_streamed_is_no_call(database: Database, store: CallStore, tenant: str) -> None:
    """A carrier tells by webhook of all calls of its account: one without a stream is in no list, one with a stream is,
    and what was told is among the events of either."""
    insert(database, [Call("CA1", tenant).reported(), Call("CA2", tenant).reported(), Call("CA2", tenant).started()])

    assert [call.id for call in store.list_calls(tenant=tenant)[0]] == ["CA2"]
    assert store.get_call("CA1", tenant) is None
    assert [event["type"] for event in store.events("CA1", tenant)] == ["call.status"]
    assert len(store.events("CA2", tenant)) == 2


def test_keys_are_found_by_hash_and_stay_revoked(store: CallStore, tenant: str) -> None:
    """Stores a key twice, as every start of the API does with its first one, revokes it and stores it again: it is one
    key, it stays revoked, and the time of the first revocation stands."""
    key_hash = uuid.uuid4().hex * 2
    key = ApiKey(id=str(uuid.uuid4()), tenant=tenant, name="ci", hash=key_hash, created_at_ms=T0, admin=True)
    store.put_key(key)
    store.put_key(key)
    assert store.find_key_by_hash(key_hash) == key
    assert store.list_keys(tenant) == [key]

    assert store.revoke_key(key.id, T0 + 1)
    assert store.revoke_key(key.id, T0 + 2)
    store.put_key(key)

    revoked = key.model_copy(update={"revoked_at_ms": T0 + 1})
    assert store.find_key_by_hash(key_hash) == revoked
    assert store.list_keys(tenant) == [revoked]
    assert not store.revoke_key("nobody", T0)
    assert store.find_key_by_hash("0" * 64) is None
