"""Queries of calls against a real engine. Each test has its own tenants, since all tests share the engine."""

from collections.abc import Sequence
from typing import Any, get_args

import pytest

from schemas.artifacts import Segment, Transcript
from schemas.events import AnyEvent, LetterReplayed, UsageRecorded
from sinks.clickhouse.ambiguity import AmbiguousCallError
from sinks.clickhouse.call_list_query import CallFilter, positions_query
from sinks.clickhouse.call_projection import CallDoc, Status, build_call
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import segment_rows
from sinks.clickhouse.usage_queries import UsageStore
from tests.support.call_events import T0, Call, insert, line_of

HOUR = 3_600_000


def pages(store: CallStore, tenant: str, limit: int) -> list[list[str]]:
    """Returns the ids on every page of the list."""
    result: list[list[str]] = []
    cursor: str | None = None
    while True:
        calls, cursor = store.list_calls(CallFilter(tenant=tenant), limit=limit, cursor=cursor)
        result.append([call.id for call in calls])
        if cursor is None:
            return result


def test_a_call_is_found_with_its_bill(database: Database, store: CallStore, tenant: str) -> None:
    """Inserts a call's events in two batches, the later events first, and its ledger line: the document is the one of
    these events, with the line."""
    call = Call("CA1", tenant)
    insert(database, [*call.complete()[3:], call.usage()])
    insert(database, call.complete()[:3])

    found = store.get_call("CA1", tenant)

    assert found is not None
    assert found == build_call(call.complete(), [line_of(call.usage())])
    assert found.status == "complete"
    assert [(line.units, line.provider_cost, line.price) for line in found.usage] == [(50, "0.0005", "0.01")]


def test_a_tenant_sees_only_its_own(database: Database, store: CallStore, tenant: str) -> None:
    """Stores calls of two tenants with the same id. Each tenant finds its own call, and a query for every tenant is
    refused with both tenants' names. A failure means that a request for one tenant's call could show, change or erase
    the call of another."""
    other = f"{tenant}-other"
    shared_id = f"CA-{tenant}"
    mine, theirs = Call(shared_id, tenant), Call(shared_id, other, t0=T0 + HOUR)
    insert(database, [*mine.complete(), mine.usage(), *theirs.complete(), theirs.usage()])

    for owner in (tenant, other):
        found = store.get_call(shared_id, owner)
        assert found is not None
        assert found.tenant == owner
    with pytest.raises(AmbiguousCallError, match=f"choose one of {tenant}, {other} with `tenant`"):
        store.get_call(shared_id, None)
    assert {event["tenant"] for event in store.events(shared_id, tenant)} == {tenant}
    assert [call.tenant for call in store.list_calls(CallFilter(tenant=tenant))[0]] == [tenant]
    assert store.get_call(shared_id, "nobody") is None
    assert store.events(shared_id, "nobody") == []


def test_events_come_in_order_and_once(database: Database, store: CallStore, tenant: str) -> None:
    """Inserts events twice and in reverse: the query returns each once, in the order in which they occurred."""
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
    """Reads a first page, inserts a newer call and repeats an older one, then reads the second page: it begins where
    the first one ended. Each of the calls that started in the same millisecond is on exactly one page."""
    insert(database, [Call(f"CA{n}", tenant, t0=T0 + min(n, 4) * HOUR).started() for n in range(7)])
    assert pages(store, tenant, 3) == [["CA4", "CA5", "CA6"], ["CA3", "CA2", "CA1"], ["CA0"]]

    first, cursor = store.list_calls(CallFilter(tenant=tenant), limit=3)
    insert(database, [Call("CA9", tenant, t0=T0 + 9 * HOUR).started(), Call("CA3", tenant, t0=T0 + 3 * HOUR).started()])
    second, _ = store.list_calls(CallFilter(tenant=tenant), limit=3, cursor=cursor)

    assert [call.id for call in first] == ["CA4", "CA5", "CA6"]
    assert [call.id for call in second] == ["CA3", "CA2", "CA1"]


def test_the_list_is_narrowed_by_time_and_text(database: Database, store: CallStore, tenant: str) -> None:
    """`since` is included and `until` is not; text is searched in the id and in both numbers, without regard to case;
    characters with a meaning in SQL have none here."""
    insert(
        database, [Call(name, tenant, t0=T0 + n * HOUR).started() for n, name in enumerate(("CAx", "CAy_%'", "CAz"))]
    )

    def ids(**wanted: int | str) -> list[str]:
        calls, _ = store.list_calls(CallFilter(tenant=tenant, **wanted))  # type: ignore[arg-type]  # keywords by name
        return [call.id for call in calls]

    assert ids(since_ms=T0 + HOUR, until_ms=T0 + 2 * HOUR) == ["CAy_%'"]
    assert ids(query="cAX") == ["CAx"]
    assert ids(query="_%'") == ["CAy_%'"]
    assert ids(query="4930222") == ["CAz", "CAy_%'", "CAx"]
    assert ids(query="{query:String}") == []
    assert ids(query="+49 (30) 222") == ["CAz", "CAy_%'", "CAx"]
    assert ids(query="0049 30 111") == ["CAz", "CAy_%'", "CAx"]
    assert ids(query="+49 30 223") == []


def test_calls_are_filtered_by_what_they_are(database: Database, store: CallStore, tenant: str) -> None:
    """Filters by carrier, number, duration and words: the list, the set of matching calls and the sums of the ledger.

    Two parts of one call count together for its duration. Words are those of the current transcript and its summary: a
    word of a version that is not current does not count, nor a name in the summary's event that nobody said. If this
    fails, a list or a bill shows other calls than its filter names.
    """
    usage = UsageStore(database)
    short = Call("CA-short", tenant)
    double = Call("CA-double", tenant, t0=T0 + HOUR)
    jambonz = Call("CA-jambonz", tenant, t0=T0 + 2 * HOUR)
    insert(database, [*short.complete(), short.usage()])
    insert(
        database,
        [*double.complete(), double.usage(), double.recording(at=200_000, part=2, start=120_000, end=180_000)],
    )
    other = jambonz.started().model_copy(update={"carrier": "jambonz", "from_number": "+447700900123"})
    old = jambonz.transcript().model_copy(update={"event_id": "old", "transcript_id": "old", "occurred_at_ms": T0})
    summary = jambonz.summary().model_copy(update={"abstract": "The Müller order is late.", "key_points": ["Refund"]})
    insert(database, [other, jambonz.recording(), old, jambonz.transcript(), summary])
    said = {
        old: "nobody hears this any more",
        jambonz.transcript(): "My refrigerator hums. I'd like 50% off, please.",
        short.transcript(): "Hello, my order number is 4711.",
    }
    for event, text in said.items():
        segment = Segment(start_ms=0, end_ms=900, channel=0, speaker="inbound", text=text)
        spoken = Transcript(
            call_id=event.call_id, language="en", duration_ms=900, provider="p", model="m", segments=[segment]
        )
        database.insert([*segment_rows(event, spoken)])

    def ids(**wanted: Any) -> list[str]:
        calls, _ = store.list_calls(CallFilter(tenant=tenant, **wanted))
        found = [call.id.removeprefix("CA-") for call in calls]
        matching = store.find_matching(CallFilter(tenant=tenant, **wanted), 10)
        assert matching == {(tenant, call.id) for call in calls}
        lines = sum(row.lines for row in usage.sums(tenant=tenant, of_calls=CallFilter(tenant=tenant, **wanted)))
        assert lines == len(set(found) & {"short", "double"})
        return found

    assert ids(carrier="jambonz") == ["jambonz"]
    assert ids(carrier="twilio") == ["double", "short"]
    assert ids(number="07700 900123") == ["jambonz"]
    assert ids(number="+44 7700 900124") == []
    assert ids(min_ms=60_001) == ["double"]
    assert ids(max_ms=60_000) == ["jambonz", "short"]
    assert ids(min_ms=120_000, max_ms=120_000) == ["double"]
    assert ids(words=("ORDER",)) == ["jambonz", "short"]
    assert ids(words=("order", "4711")) == ["short"]
    assert ids(words=("müller", "refund", "fridge")) == []
    assert ids(words=("MÜLLER", "refund", "refrigerator")) == ["jambonz"]
    assert ids(words=("50%", "i'd")) == ["jambonz"]
    assert ids(words=("any",)) == []
    assert ids(words=("extractive",)) == []
    assert ids(words=("order",), carrier="twilio", max_ms=60_000, since_ms=T0, until_ms=T0 + 1) == ["short"]


def test_a_call_is_found_by_a_number_that_only_a_webhook_named(
    database: Database, store: CallStore, tenant: str
) -> None:
    """Searches a call whose stream has no numbers: it is found by the number of its voice request."""
    call = Call("CA1", tenant)
    silent = call.started().model_copy(update={"from_number": "", "to_number": ""})
    report = call.reported("voice-request").model_copy(update={"from_number": "+15550100123", "over": False})
    insert(database, [silent, report])
    (found,), _ = store.list_calls(CallFilter(tenant=tenant, query="(555) 010-0123"))
    assert found.from_number == "+15550100123"
    assert store.list_calls(CallFilter(tenant=tenant, query="(555) 010-0124"))[0] == []


def test_a_call_with_a_second_stream_keeps_its_start(database: Database, store: CallStore, tenant: str) -> None:
    """A call's first stream started before `since`, its second one after it: the call is not listed."""
    call = Call("CA1", tenant)
    insert(database, [call.started(), call.started(2 * HOUR, "MZ2")])

    assert store.list_calls(CallFilter(tenant=tenant, since_ms=T0 + HOUR)) == ([], None)


def test_every_status_finds_its_calls(database: Database, store: CallStore, tenant: str) -> None:
    """Inserts every combination of results of two parts, failures and second streams, and lists each status in pages:
    together the lists have all calls, each once, in the status of its document. A call that the query misses would be
    in no list."""
    calls = combinations(tenant)
    insert(database, [event for events in calls.values() for event in events])
    expected = {status: {id_ for id_, events in calls.items() if status_of(events) == status} for status in STATUSES}
    assert all(expected.values())

    for status in STATUSES:
        found: list[CallDoc] = []
        cursor: str | None = None
        while True:
            page, cursor = store.list_calls(CallFilter(tenant=tenant, status=status), limit=40, cursor=cursor)
            found += page
            if cursor is None:
                break
        assert len(found) == len(expected[status])
        assert {call.id for call in found} == expected[status]


def test_a_rare_status_is_found_without_looking_at_every_call(database: Database, tenant: str) -> None:
    """Inserts 300 complete calls, one call without its ledger line and one without vectors: the query for summarized
    calls returns only the last two. If it returned every call with a summary, the list would read every call: 3 s with
    5,000 calls."""
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
    """Returns calls by id: every progress of two parts, with and without a failure, with and without an open stream."""

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
                for open_stream in (False, True):
                    call = Call(f"CA-{first}-{second}-{stage}-{open_stream}", tenant, t0=T0 + len(calls) * 1000)
                    calls[call.id] = [
                        call.started(),
                        *progress(call, 1)[first],
                        *progress(call, 2)[second],
                        *([call.failed(stage, part=2)] if stage else []),
                        *([call.started(300_000, "MZ2")] if open_stream else []),
                    ]
    return calls


def test_a_dead_letter_alone_is_no_call(database: Database, store: CallStore, tenant: str) -> None:
    """An unreadable record made a dead letter with the id of a call that never existed, and an operator replayed it:
    the call is not in the list and cannot be read."""
    letter = Call("CA1", tenant).failed("analytics")
    replayed = LetterReplayed(
        event_id=f"replayed-{tenant}",
        call_id="CA1",
        tenant=tenant,
        occurred_at_ms=letter.occurred_at_ms,
        letter_id=letter.event_id,
    )
    insert(database, [letter, replayed])

    assert store.list_calls(CallFilter(tenant=tenant)) == ([], None)
    assert store.get_call("CA1", tenant) is None
    assert len(store.events("CA1", tenant)) == 2


def test_a_call_that_was_never_streamed_is_no_call(database: Database, store: CallStore, tenant: str) -> None:
    """A carrier reports all calls of its account by webhook: a call without a stream is not in the list, a call with a
    stream is, and the report is among the events of both."""
    insert(database, [Call("CA1", tenant).reported(), Call("CA2", tenant).reported(), Call("CA2", tenant).started()])

    assert [call.id for call in store.list_calls(CallFilter(tenant=tenant))[0]] == ["CA2"]
    assert store.get_call("CA1", tenant) is None
    assert [event["type"] for event in store.events("CA1", tenant)] == ["call.status"]
    assert len(store.events("CA2", tenant)) == 2
