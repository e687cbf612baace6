"""Queries of the ledger against a real engine. Each test has its own tenants, since all tests share the engine."""

import uuid
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events import Tokens
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.usage_queries import GroupBy, UsageStore
from tests.support.call_events import T0, Call, insert

HOUR = 3_600_000


@pytest.fixture(scope="module")
def usage(database: Database) -> UsageStore:
    return UsageStore(database)


def test_minutes_count_each_recording_once(database: Database, usage: UsageStore, tenant: str) -> None:
    """A call of two parts has lines for transcription, summary and embedding, and another model transcribes the first
    part again. Every grouping must have two minutes in total, on the lines of the first transcriptions, while units,
    cost and price include every line. More minutes mean that a replay or a language model counts audio again."""
    call = Call("CA1", tenant)
    better = call.usage(cost="0.002", price="0.01", units=50).model_copy(
        update={"key": "transcription_a", "provider": "soniox", "model": "large", "replay_id": "rp-1"}
    )
    summary = call.usage(cost="0.001", price="0.02", units=0).model_copy(
        update={"key": "summary_a", "kind": "summary", "provider": "gemini"}
    )
    embedding = summary.model_copy(update={"key": "embedding_a", "kind": "embedding"})
    insert(database, [better, embedding, summary, call.usage(), call.usage(part=2), better])

    (row,) = usage.sums(tenant=tenant)
    assert (row.lines, row.units, row.provider_cost, row.price) == (5, 150, "0.005", "0.07")
    assert (row.duration_ms, row.minutes) == (120_000, "2.000")
    minutes = {
        group: {row.group: row.minutes for row in usage.sums(tenant=tenant, group_by=group)}
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
    assert usage.sums(tenant=tenant, to_ms=call.t0) == []


def test_a_line_that_a_replay_repeats_stays_as_it_was(database: Database, store: CallStore, tenant: str) -> None:
    """A replay with the old settings publishes the live call's line again, with the replay's id, before and after it:
    the line stays that of live processing."""
    call = Call("CA1", tenant)
    again = call.usage().model_copy(update={"replay_id": "rp-1"})
    insert(database, [again])
    insert(database, [call.usage()])
    insert(database, [again])
    insert(database, call.complete())

    found = store.get_call("CA1", tenant)

    assert found is not None
    assert [(line.replay_id, line.provider, line.model) for line in found.usage] == [("", "whisper", "base")]


def test_a_line_published_again_with_another_price_stays_as_it_was(
    database: Database, usage: UsageStore, tenant: str
) -> None:
    """A replay after a change of prices publishes a line with the same key, another price, another day and a later
    time: the sums do not change, also after a merge of the table. A key is charged once, at its first price."""
    call = Call("CA1", tenant)
    again = call.usage(price="99", at=999_000).model_copy(update={"call_started_at_ms": T0 + 40 * 24 * HOUR})
    insert(database, [again])
    insert(database, [call.usage().model_copy(update={"tokens": Tokens(prompt=7)})])
    insert(database, [again])

    unmerged = usage.sums(tenant=tenant, group_by="day")
    database.query("OPTIMIZE TABLE ledger FINAL")

    assert [(row.group, row.price, row.lines) for row in unmerged] == [("2025-11-24", "0.01", 1)]
    assert usage.sums(tenant=tenant, group_by="day") == unmerged
    rows = database.query("SELECT prompt_tokens FROM ledger FINAL WHERE tenant = {tenant:String}", {"tenant": tenant})
    assert rows == [{"prompt_tokens": 7}]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12), min_size=1, max_size=6
    )
)
def test_the_bill_is_the_sum_over_distinct_lines(
    database: Database, usage: UsageStore, batches: list[list[tuple[int, int]]]
) -> None:
    """Inserts ten lines any number of times in any batches, later versions with other prices: every aggregate equals
    the sum over distinct lines, each in its earliest inserted version. A line that counts twice, or at a later price,
    is a wrong bill."""
    tenant = f"tenant-{uuid.uuid4()}"
    earliest: dict[int, int] = {}
    for batch in batches:
        insert(
            database,
            [
                Call(f"CA{n}", tenant).usage(price=f"{n + 1}.00{version}", units=n + version, at=65_000 + version)
                for n, version in batch
            ],
        )
        for n, version in batch:
            earliest[n] = min(version, earliest.get(n, version))

    price = sum(Decimal(f"{n + 1}.00{version}") for n, version in earliest.items())
    for group in get_args(GroupBy):
        rows = usage.sums(tenant=tenant, group_by=group)
        assert sum(row.lines for row in rows) == len(earliest)
        assert sum(row.units for row in rows) == sum(n + version for n, version in earliest.items())
        assert sum(Decimal(row.price) for row in rows) == price
    [daily] = database.query(
        "SELECT sum(lines) AS lines, sum(price) AS charged FROM usage_daily WHERE tenant = {tenant:String}",
        {"tenant": tenant},
    )
    assert (daily["lines"], Decimal(str(daily["charged"]))) == (len(earliest), price)


def test_the_bill_never_adds_currencies_and_keeps_to_its_time(
    database: Database, usage: UsageStore, tenant: str
) -> None:
    """Inserts lines in two currencies on two days: each group is split by currency, in a fixed order; `from` is
    included, `to` is not; a period without charges has no row."""
    insert(
        database,
        [
            Call("CA1", tenant).usage(),
            Call("CA2", tenant).usage(price="5", cost="7", currency="EUR"),
            Call("CA3", tenant, t0=T0 + 24 * HOUR).usage(),
        ],
    )

    rows = usage.sums(tenant=tenant, group_by="day", to_ms=T0 + 24 * HOUR)

    assert [(row.group, row.currency, row.price, row.margin) for row in rows] == [
        ("2025-11-24", "EUR", "5", "-2"),
        ("2025-11-24", "USD", "0.01", "0.0095"),
    ]
    assert [row.minutes for row in usage.sums(tenant=tenant, from_ms=T0 + 24 * HOUR)] == ["1.000"]
    assert usage.sums(tenant=tenant, from_ms=T0 + 25 * HOUR) == []


def test_a_tenant_sees_only_its_own_lines(database: Database, usage: UsageStore, tenant: str) -> None:
    """Two tenants have a call with the same id and one line each: each sees one line, and the sums by call for every
    tenant have one row per tenant. A failure means that the bill of one call contains the call of another tenant."""
    other, shared_id = f"{tenant}-other", f"CA-{tenant}"
    insert(database, [Call(shared_id, tenant).usage(), Call(shared_id, other).usage()])
    for seen_by in (tenant, other):
        assert [row.lines for row in usage.sums(tenant=seen_by)] == [1]
    by_call = [row for row in usage.sums(group_by="call") if row.group == shared_id]
    assert [(row.tenant, row.lines) for row in by_call] == [(tenant, 1), (other, 1)]
