"""The consumer group `analytics`: a process of its own with a real log, object storage and ClickHouse."""

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from core.settings import ClickHouseSettings, S3Settings
from pipelines.analytics import SegmentReader
from pipelines.erase.handler import requested
from redpanda import topics
from redpanda.client import EventProducer, producer_config
from schemas.artifacts import Segment, Transcript, transcript_key
from schemas.events import ErasureRequested, ObjectRef, parse_event
from schemas.ids import sha256_hex
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.rows import ledger_row
from sinks.object_store import ObjectStore, ObjectStoreError
from tests.conftest import StartServer, kafka_settings
from tests.support.call_events import Call
from tests.support.running_server import RunningServer
from tests.support.service_process import offsets, records, running
from tests.support.waiting import wait_until

# Of the 1.5 s from hang-up to `recorded` in the API, analytics may take this much.
VISIBLE_WITHIN_S = 0.35


@pytest.fixture
def addresses(object_server: RunningServer, clickhouse_server: RunningServer) -> dict[str, str]:
    """Returns the settings for the shared object storage and ClickHouse."""
    return object_server.addresses | clickhouse_server.addresses


def stored(objects: ObjectStore, call: Call) -> ObjectRef:
    """Stores a transcript of the call in object storage."""
    transcript = Transcript(
        call_id=call.id,
        language="en",
        duration_ms=60_000,
        provider="whisper",
        model="base",
        segments=[
            Segment(start_ms=0, end_ms=900, channel=0, speaker="inbound", text="Hello?"),
            Segment(start_ms=900, end_ms=1_500, channel=1, speaker="outbound", text="Hello."),
        ],
    )
    key = transcript_key(call.tenant, call.id, "t1")
    return objects.put(key, transcript.model_dump_json().encode(), "application/json")


def test_events_and_segments_are_there_soon(
    start_server: StartServer,
    s3: S3Settings,
    clickhouse: ClickHouseSettings,
    addresses: dict[str, str],
    tmp_path: Path,
) -> None:
    """Publishes the events of two calls.

    One event twice, one without its transcript, and an invalid record between them. Then it measures the time from the
    log to the API's response. A longer time would break the promise of `recorded` within 1.5 s; a missing event would
    leave a call unfinished.
    """
    log = start_server("log")
    kafka = kafka_settings(log)
    topics.apply(kafka, embedded=True)
    env = log.addresses | addresses
    store, database = CallStore(clickhouse), Database(clickhouse)
    tenant = f"analytics-{time.time_ns()}"
    call, without = Call("CA1", tenant), Call("CA2", tenant)
    database.insert([ledger_row(one.usage()) for one in (call, without)])  # the other service's work
    producer = EventProducer(kafka)

    with running("pipelines.analytics", env, tmp_path / "log") as service:
        raw = Producer(producer_config(kafka))
        raw.produce(Topic.CALL_EVENTS, key="CA-broken", value=b"\xff\x00")
        raw.produce(Topic.DEAD_LETTERS, key="CA-broken", value=b"{}")
        raw.flush()
        transcript = call.transcript(ref=stored(ObjectStore(s3), call))
        for topic, events in (
            (Topic.EMBEDDING_READY, [call.embedding(), without.embedding()]),
            (Topic.SUMMARY_READY, [call.summary(), without.summary()]),
            (Topic.TRANSCRIPT_READY, [transcript, transcript, without.transcript()]),
            (Topic.RECORDING_READY, [call.recording(), without.recording()]),
            (Topic.CALL_EVENTS, [call.started(), call.ended(), without.started()]),
        ):
            producer.send(topic, events)

        def complete() -> bool:
            found = [store.get_call(one.id, tenant) for one in (call, without)]
            return all(one is not None and one.status == "complete" for one in found)

        wait_until(complete, "both calls are complete")
        took_s = [visible_after(producer, store, Call(f"CB{n}", tenant)) for n in range(10)]
        # The broken record, what came of it, and the dead letter that is none: that one makes no other.
        letters = records(kafka, Topic.DEAD_LETTERS, 2)
        with offsets(kafka, "analytics", Topic.DEAD_LETTERS.value) as committed:
            wait_until(lambda: committed() == 2, "dead letters are committed")
        code, ended_s = service.terminate()

    segments = database.query(
        "SELECT call_id, segment, speaker, text FROM segments FINAL WHERE tenant = {tenant:String} ORDER BY segment",
        {"tenant": tenant},
    )
    assert [(row["call_id"], row["speaker"], row["text"]) for row in segments] == [
        ("CA1", "inbound", "Hello?"),
        ("CA1", "outbound", "Hello."),
    ]
    assert b"{}" in letters
    assert any(b'"stage":"analytics"' in letter for letter in letters)
    assert "no segments of transcript" in service.output
    print("log to API:", " ".join(f"{took * 1000:.0f}" for took in sorted(took_s)), "ms")
    # The quarter that was not disturbed by what else the machine does.
    assert sorted(took_s)[len(took_s) // 4] < VISIBLE_WITHIN_S, took_s
    assert (code, ended_s < 10) == (0, True), service.output


def test_a_result_of_an_erased_call_has_it_erased_again(
    start_server: StartServer, clickhouse: ClickHouseSettings, addresses: dict[str, str], tmp_path: Path
) -> None:
    """Publishes a summary of an erased call and one of another call.

    The service must request another erasure of the first. Otherwise the results of a late stage or a replay would stay.
    """
    log = start_server("log")
    kafka = kafka_settings(log)
    topics.apply(kafka, embedded=True)
    tenant = f"analytics-{time.time_ns()}"
    erased, kept = Call("CA1", tenant), Call("CA2", tenant)
    ReplayStore(clickhouse).put(requested(tenant, erased.id))

    with running("pipelines.analytics", log.addresses | addresses, tmp_path / "log") as service:
        EventProducer(kafka).send(Topic.SUMMARY_READY, [kept.summary(), erased.summary()])
        (request,) = records(kafka, Topic.ERASURE_REQUESTS, 1)
        # Its own request is read, too, and is no reason for another.
        with offsets(kafka, "analytics", Topic.ERASURE_REQUESTS.value) as committed:
            wait_until(lambda: committed() == 1, "the request is committed")
        code, _ = service.terminate()

    event = parse_event(request)
    assert isinstance(event, ErasureRequested)
    assert (event.tenant, event.call_id) == (tenant, erased.id)
    assert len(records(kafka, Topic.ERASURE_REQUESTS, 1)) == 1
    assert code == 0, service.output


def visible_after(producer: EventProducer, store: CallStore, call: Call) -> float:
    """Returns the seconds from the log's acknowledgement of a recording to the API's response that has it."""
    producer.send(Topic.RECORDING_READY, [call.recording()])

    def recorded() -> bool:
        found = store.get_call(call.id, call.tenant)
        return found is not None and found.status == "recorded"

    return wait_until(recorded, "the call is recorded")


@pytest.mark.parametrize("content", [b"{", b'{"segments":[]}'])
def test_an_invalid_transcript_has_no_segments(s3: S3Settings, content: bytes) -> None:
    """Announces objects that are not transcripts, or not the announced ones.

    They must give no rows and delay no other call.
    """
    objects = ObjectStore(s3)
    ref = objects.put(f"broken/{sha256_hex(content)}.json", content, "application/json")
    segments = SegmentReader(objects)

    assert segments.rows(Call("CA1").transcript(ref=ref)) == ()
    assert segments.rows(Call("CA1").transcript(ref=ref.model_copy(update={"sha256": "0" * 64}))) == ()


def test_object_storage_that_is_away_is_waited_for(s3: S3Settings) -> None:
    """Uses an address without a server. That must be an error to retry, unlike a missing object."""
    objects = ObjectStore(s3.model_copy(update={"endpoint": "http://127.0.0.1:9"}))

    with pytest.raises(ObjectStoreError):
        SegmentReader(objects).rows(Call("CA1").transcript())
