"""Every service that reads the log shows how it fares, and tells that it lives, as a process would be watched."""

import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from core.heartbeat import WatchdogSocket
from redpanda import topics
from redpanda.client import EventProducer, producer_config
from schemas.media import to_headers
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.conftest import StartServer, kafka_settings, s3_settings
from tests.support.call_events import Call
from tests.support.holdable_recorder import HELD, LIMIT_S
from tests.support.media_records import call
from tests.support.service_process import running
from tests.support.up_process import free_port
from tests.support.waiting import wait_for, wait_until

SERVICES = {
    "recorder": "tests.support.holdable_recorder",
    "usage": "pipelines.billing.ledger",
    "analytics": "pipelines.analytics",
    "summarize": "pipelines.summarize.handler",
}


def figures(port: int) -> dict[str, float]:
    """What /metrics says: the sum of each name's samples."""
    found: dict[str, float] = {}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.URLError:  # it still starts
        return {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def reached(seen: dict[str, float], expected: dict[str, float]) -> bool:
    return all(seen.get(name) == value for name, value in expected.items())


def test_services_show_how_they_fare_and_live_on_while_the_log_hangs(start_server: StartServer, tmp_path: Path) -> None:
    """What does this test do? It runs recorder, usage, analytics and one slow stage, gives the first three something to
    do, reads their figures, and then stops the log (SIGSTOP) while they are at it.

    Whoever waits for a log that is away must go on telling that it lives: the supervisor would kill it otherwise, again
    and again, and for nothing. And figures that are not wired to what they count would show a healthy zero for ever.
    """
    log, objects, clickhouse = start_server("log"), start_server("objects"), start_server("clickhouse")
    kafka = kafka_settings(log).model_copy(update={"instance_id": "0"})
    topics.apply(kafka, embedded=True)
    ObjectStore(s3_settings(objects)).ensure_bucket()
    listeners = {stage: WatchdogSocket() for stage in SERVICES}
    ports = {stage: free_port() for stage in SERVICES}
    hold = tmp_path / "hold"
    env = (
        {HELD: str(hold)}
        | log.addresses
        | objects.addresses
        | clickhouse.addresses
        | {"AUDIOTEXT_KAFKA__INSTANCE_ID": "0"}
    )
    with ExitStack() as stack:
        for stage, module in SERVICES.items():
            own = {"AUDIOTEXT_METRICS__PORT": str(ports[stage]), "AUDIOTEXT_DATA_DIR": str(tmp_path / stage)}
            told = listeners[stage].environment
            stack.enter_context(running(module, env | own | told, tmp_path / f"{stage}.log"))
        producer, events = Producer(producer_config(kafka)), EventProducer(kafka)
        spoken = call("CA-watched", 1_000).records()

        def talk(number: int) -> None:
            record = spoken[number]
            producer.produce(Topic.CALL_MEDIA, record.payload, record.call_id, headers=to_headers(record))
            producer.flush()

        talk(0)
        told_of = Call("CA-told")
        events.send(Topic.CALL_EVENTS, [told_of.started()])
        events.send(Topic.USAGE_RECORDED, [told_of.usage(price="1", cost="1", units=1)])
        for stage, expected in {
            "recorder": {"audiotext_consumer_records_total": 1, "audiotext_recorder_open_calls": 1},
            "usage": {"audiotext_sink_records_total": 1, "audiotext_stage_latency_seconds_count": 1},
            "analytics": {"audiotext_sink_records_total": 1},
        }.items():
            wait_until(lambda s=stage, e=expected: reached(figures(ports[s]), e), f"figures of {stage}")  # type: ignore[misc]
        for stage, port in ports.items():
            wait_until(lambda p=port: figures(p).get("audiotext_consumer_lag_records") == 0, f"{stage} has no lag")  # type: ignore[misc]

        hold.touch()
        talk(1)
        wait_until(hold.with_suffix(".waits").exists, "the recorder is about to commit")
        log.pause()
        hold.unlink()
        until = time.monotonic() + 3 * LIMIT_S
        while time.monotonic() < until:
            for listener in listeners.values():
                listener.received()
            for stage, listener in listeners.items():
                wait_for(listener.received, f"{stage} tells that it lives while the log is away")
        log.resume()
    for listener in listeners.values():
        listener.close()
