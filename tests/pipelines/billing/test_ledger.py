"""The bill's service: a process of its own, a real log and a real ClickHouse of the test's own, so that both can be
taken away."""

from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipelines.billing import ledger
from redpanda import topics
from redpanda.client import EventProducer, producer_config
from schemas.events import StageFailed
from schemas.topics import Topic
from sinks.clickhouse.usage_queries import UsageStore
from tests.conftest import StartServer, clickhouse_settings, kafka_settings
from tests.support.call_events import Call
from tests.support.service_process import offsets, records, running
from tests.support.waiting import wait_until


def test_only_lines_of_the_bill_become_rows() -> None:
    """Another event on the bill's topic is refused, not booked."""
    with pytest.raises(ValueError, match=r"stream\.started is not a ledger line"):
        ledger.rows(Call("CA1").started())


def test_every_line_is_booked_once_whatever_is_killed(start_server: StartServer, tmp_path: Path) -> None:
    """Tells 300 lines twice over, kills the service in between, takes ClickHouse away while more come, tells all of it
    again after both are back, with records between that are no lines: the ledger has each line once and exactly, what
    is no line is a dead letter, and nothing was committed that ClickHouse did not have."""
    log, clickhouse = start_server("log"), start_server("clickhouse")
    # Static membership, as the supervisor gives: the embedded log waits for ever for a member that was killed.
    kafka = kafka_settings(log).model_copy(update={"instance_id": "0"})
    topics.apply(kafka, embedded=True)
    usage = UsageStore(clickhouse_settings(clickhouse))
    env = log.addresses | clickhouse.addresses | {"AUDIOTEXT_KAFKA__INSTANCE_ID": "0"}
    lines = [Call(f"CA{n}").usage(price="0.0101", cost="0.000000000001", units=n) for n in range(300)]
    producer = EventProducer(kafka)
    raw = Producer(producer_config(kafka))

    def booked() -> int:
        return sum(row.lines for row in usage.sums())

    with running("pipelines.billing.ledger", env, tmp_path / "log") as first:
        producer.send(Topic.USAGE_RECORDED, [*lines[:200], *lines[:200]])
        wait_until(lambda: booked() > 0, "the first lines are booked")
        first.kill()

    raw.produce(Topic.USAGE_RECORDED, key="CA-broken", value=b"{not json")
    raw.produce(Topic.USAGE_RECORDED, key="CA-other", value=Call("CA-other").started().model_dump_json())
    raw.produce(Topic.USAGE_RECORDED, key="CA-none", value=None)
    raw.flush()
    with (
        offsets(kafka, "usage", Topic.USAGE_RECORDED.value) as committed,
        running("pipelines.billing.ledger", env, tmp_path / "log") as second,
    ):
        wait_until(lambda: committed() == 403, "all is committed")
        clickhouse.kill()
        producer.send(Topic.USAGE_RECORDED, [*lines[200:], *lines])
        wait_until(lambda: "retrying in" in second.output, "the service reports that ClickHouse is unavailable")
        assert committed() == 403
        clickhouse.start()
        wait_until(lambda: committed() == 803, "all is committed again")
        code, took_s = second.terminate()

    (total,) = usage.sums()
    assert (total.lines, total.units) == (300, sum(range(300)))
    assert (total.price, total.provider_cost) == ("3.03", "0.0000000003")
    letters = [StageFailed.model_validate_json(value) for value in records(kafka, Topic.DEAD_LETTERS, 3)]
    assert {(letter.call_id, letter.stage, letter.error_class) for letter in letters} == {
        (call_id, "usage", "permanent") for call_id in ("CA-broken", "CA-other", "CA-none")
    }
    assert (code, took_s < 10) == (0, True), second.output
