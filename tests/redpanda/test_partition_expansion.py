"""Partitions are added while calls go on."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from audiotext.embedded import kafka as embedded_kafka
from core.errors import UserError
from core.settings import KafkaSettings
from gateway.metrics import Metrics
from gateway.producer.log_producer import LogProducer
from gateway.producer.partition_resolver import PartitionResolver
from redpanda import topics
from redpanda.client import connection_config
from redpanda.partition_expansion import CHANGELOG, expand, read_announcements, sync_changelog
from redpanda.partition_layout import partition_of
from schemas.events import RecordingReady, StreamStarted
from schemas.media import EosReason, MediaRecord
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings
from tests.kafka_lane import KafkaNodes, plain_producer_config
from tests.pipelines.recorder.calls import Call, call, stereo, wav_channels
from tests.pipelines.recorder.running import Bench, eventually
from tests.running import RunningServer

BEFORE, AFTER = 2, 5
NOTICE_S = 2.0


@pytest.fixture(params=[1, 3], ids=["one node", "three nodes"])
def own_log(request: pytest.FixtureRequest) -> RunningServer:
    """Apache Kafka, where it can run: what it does with partitions is what counts, and of three nodes each learns of
    them at its own time. Else the embedded log."""
    if embedded_kafka.available() is None:
        nodes: KafkaNodes = request.getfixturevalue("kafka_node" if request.param == 1 else "kafka_cluster")
        return nodes
    if request.param != 1:
        pytest.skip("the embedded log is one node")
    server: RunningServer = request.getfixturevalue("start_server")("log")
    return server


@pytest.fixture
def bench(own_log: RunningServer, start_server: StartServer, tmp_path: Path) -> Iterator[Bench]:
    """A recorder on a log of the test's own, and its store."""
    made = Bench(own_log, start_server("objects"), tmp_path, idle_timeout_ms=60_000, metadata_s=1)
    made.start()
    yield made
    if made.running is not None and made.running.poll() is None:
        assert made.stop() == 0


@contextlib.asynccontextmanager
async def gateway(kafka: KafkaSettings) -> AsyncIterator[LogProducer]:
    """A gateway's way to the log, ended with everything delivered."""
    writer = LogProducer(kafka, Metrics(), limit_bytes=64 << 20, places=PartitionResolver(kafka, refresh_s=0.2))
    writer.start()
    yield writer
    assert await writer.drain(60)
    writer.close()


def begin(writer: LogProducer, one: Call) -> None:
    """A stream of the call begins, as gateway.media.session puts it."""
    writer.put(one.start())
    writer.put(
        StreamStarted(
            event_id=f"{one.call_id}/{one.stream_id}",
            call_id=one.call_id,
            tenant=one.tenant,
            occurred_at_ms=one.at_ms,
            carrier="twilio",
            stream_id=one.stream_id,
            tracks=list(one.tracks),
            codec="PCMU",
            rate_hz=8000,
        )
    )


def put(writer: LogProducer, records: Iterable[MediaRecord]) -> None:
    """Hands them all over."""
    for record in records:
        writer.put(record)


def places(kafka: KafkaSettings) -> dict[str, set[int]]:
    """The partitions of call.media on which each call's records lie."""
    found: dict[str, set[int]] = {}
    reader = Consumer(connection_config(kafka) | {"group.id": "look", "enable.auto.commit": False})
    for number in reader.list_topics(Topic.CALL_MEDIA, timeout=10).topics[Topic.CALL_MEDIA].partitions:
        low, high = reader.get_watermark_offsets(TopicPartition(Topic.CALL_MEDIA, number), timeout=10)
        if low < high:
            reader.assign([TopicPartition(Topic.CALL_MEDIA, number, low)])
        while low < high:
            message = reader.poll(30)
            assert message is not None
            low = (message.offset() or 0) + 1
            found.setdefault((message.key() or b"").decode(), set()).add(number)
    reader.close()
    return found


def halves(one: Call) -> tuple[list[MediaRecord], list[MediaRecord]]:
    """The call's audio."""
    media = one.media()
    return media[: len(media) // 2], media[len(media) // 2 :]


def recorded(bench: Bench, calls: Iterable[Call]) -> dict[str, list[RecordingReady]]:
    """Waits until each of the calls has a recording; all there are, by call, each event once."""
    wanted = {one.call_id for one in calls}

    def look() -> dict[str, list[RecordingReady]] | None:
        if bench.running is not None and bench.running.poll() is not None:
            bench.start()  # as the stack does: a broker that does not know a new partition yet may end it
        events = {event.event_id: event for event in bench.all_recordings()}
        found: dict[str, list[RecordingReady]] = {}
        for event in events.values():
            found.setdefault(event.call_id, []).append(event)
        return found if wanted <= found.keys() else None

    try:
        return eventually(look, "every call is recorded", 80)
    except AssertionError as late:
        raise AssertionError(f"{late}\n{bench.output.read_text()[-3000:]}") from None


async def test_fifty_live_calls_end_where_they_began(bench: Bench) -> None:
    """50 calls are live at two gateways when partitions are added, the recorder running all the time. Then one gateway
    goes: its 25 calls come back to a new one, as second streams. All go on, and 20 more begin.

    Each call lies on one partition; each has one recording, which is its audio to the sample. The calls that begin
    afterwards lie on all five partitions and are recorded as well. Placed by what the broker tells of its partitions
    most would be split: two first parts, one of which overwrites the other."""
    kafka = bench.kafka
    live = [call(f"live-{number}", 2000, seed=2 * number) for number in range(50)]
    staying, moving = live[:25], live[25:]
    async with gateway(kafka) as one:
        async with gateway(kafka) as other:
            for writer, calls in ((one, staying), (other, moving)):
                for each in calls:
                    begin(writer, each)
                    put(writer, halves(each)[0])
            assert await one.drain(60)
            await asyncio.to_thread(expand, kafka, AFTER, print, notice_s=NOTICE_S)
        async with gateway(kafka) as new:
            for each in moving:
                begin(new, each.stream("MZ2", after_ms=0))
                put(new, halves(each.stream("MZ2", after_ms=0))[1])
                put(new, [each.eos(EosReason.SOCKET_CLOSED), each.stream("MZ2", after_ms=0).eos()])
            for each in staying:
                put(one, [*halves(each)[1], each.eos()])
            fresh = [call(f"fresh-{number}", 500, seed=200 + number) for number in range(20)]
            for writer, calls in ((one, fresh[:10]), (new, fresh[10:])):
                for each in calls:
                    begin(writer, each)
                    put(writer, [*each.media(), each.eos()])
    lying = await asyncio.to_thread(places, kafka)
    assert {each.call_id: lying[each.call_id] for each in live} == {
        each.call_id: {partition_of(each.call_id, BEFORE)} for each in live
    }
    assert {each.call_id: lying[each.call_id] for each in fresh} == {
        each.call_id: {partition_of(each.call_id, AFTER)} for each in fresh
    }
    assert {place for each in fresh for place in lying[each.call_id]} == set(range(AFTER))
    recordings = await asyncio.to_thread(recorded, bench, [*live, *fresh])
    for each in [*live, *fresh]:
        (event,) = recordings[each.call_id]
        assert np.array_equal(wav_channels(bench.wav(event)), stereo(list(each.tracks.values())))
        assert [track.gaps for track in event.tracks] == [[], []]
    # And the recorder finds its changelog as it must be when it starts again.
    assert await asyncio.to_thread(bench.stop) == 0
    bench.start()
    late = call("late", 500, seed=300)
    async with gateway(kafka) as writer:
        begin(writer, late)
        put(writer, [*late.media(), late.eos()])
    assert len((await asyncio.to_thread(recorded, bench, [late]))[late.call_id]) == 1


def test_grown_by_what_was_killed_it_goes_on(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills the command after its announcement, and after it made some topics' partitions; asks again: each topic has
    as many, and calls were spread over two until the end. Less is refused, the same again does nothing."""
    kafka = kafka_settings(start_server("log"))
    with pytest.raises(UserError, match="topics apply"):
        expand(kafka, 3, print)
    topics.apply(kafka, embedded=True)
    nonsense = Producer(plain_producer_config(kafka))
    nonsense.produce(Topic.LOG_LAYOUTS, b"nonsense", partition=0)  # must not keep gateways from knowing where calls go
    assert nonsense.flush(30) == 0
    told: list[str] = []

    def killed(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("redpanda.partition_expansion.time.sleep", killed)
        with pytest.raises(KeyboardInterrupt):
            expand(kafka, 3, told.append)
    expand(kafka, 3, told.append, notice_s=0.05)
    assert [(one.partitions, one.before, one.from_ms is None) for one in read_announcements(kafka)] == [
        (3, 2, True),
        (3, 2, True),
        (3, 2, False),
    ]
    found = AdminClient(connection_config(kafka)).list_topics(timeout=10).topics
    assert {len(found[topic].partitions) for topic in Topic} == {3}
    assert CHANGELOG not in found
    expand(kafka, 3, told.append)
    assert told[-1] == "calls are spread over 3 partitions already"
    with pytest.raises(UserError, match="ask for 3 or more"):
        expand(kafka, 2, told.append)


def test_a_changelog_that_came_too_late_to_grow_keeps_up(kafka: KafkaSettings) -> None:
    """A recorder's first start made its changelog just when call.media grew: it has two partitions where call.media has
    three. Without this the recorder refuses to start, for ever. What is as large already, or not there, is left."""
    leader, late, same = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("leader", "late", "same"))
    admin = AdminClient(connection_config(kafka))
    made = admin.create_topics([NewTopic(leader, 3), NewTopic(late, 2), NewTopic(same, 3)])
    for future in made.values():
        future.result()

    for name in (late, same, "nobody-made-this"):
        sync_changelog(kafka, name, leader)

    found = admin.list_topics(timeout=10).topics
    assert [len(found[name].partitions) for name in (leader, late, same)] == [3, 3, 3]
    assert "nobody-made-this" not in found
