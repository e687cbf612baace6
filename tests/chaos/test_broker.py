"""What a broker's death costs: nothing. Apache Kafka is killed, paused and started again under load."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from core.settings import KafkaSettings
from gateway.metrics import Metrics
from gateway.producer.log_producer import LogProducer
from redpanda.client import connection_config
from schemas.topics import Topic
from tests.chaos import hanging_stage
from tests.chaos.calls import Calls, events_on_log, media_on_log
from tests.pipelines.runtime.test_consumer_loop import FAST, Lab
from tests.support.kafka_backend import KafkaNodes
from tests.support.recorder_process import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
DRAIN_S = 90
MakeWriter = Callable[[KafkaSettings], LogProducer]


@pytest.fixture
async def make_writer() -> AsyncIterator[MakeWriter]:
    """Makes started gateway writers and closes them."""
    writers: list[LogProducer] = []

    def make(kafka: KafkaSettings) -> LogProducer:
        writers.append(LogProducer(kafka, Metrics(), limit_bytes=256 << 20))
        writers[-1].start()
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


async def restarted(nodes: KafkaNodes, number: int = 0, down_s: float = 1.0) -> None:
    """Kills a node and starts it again; returns once it serves."""
    nodes.kill_node(number)
    await asyncio.sleep(down_s)
    nodes.spawn_node(number)
    await asyncio.to_thread(nodes.wait_for_node, number)


def leader_of_first_partition(kafka: KafkaSettings) -> int:
    """The number, from 0, of the node that leads the first partition of call.media."""
    metadata = AdminClient(connection_config(kafka)).list_topics(timeout=10)
    leader: int = metadata.topics[Topic.CALL_MEDIA].partitions[0].leader
    return leader - 1


async def all_there_once(kafka: KafkaSettings, calls: Calls, writer: LogProducer) -> None:
    """Waits until the writer has got rid of everything; each call is then on the log as it was put, once, in order."""
    assert await writer.drain(DRAIN_S), f"{writer.held_bytes} bytes are still held"
    found = await asyncio.to_thread(media_on_log, kafka, list(calls.expected))
    for call, expected in calls.expected.items():
        assert found[call] == expected
    events = await asyncio.to_thread(events_on_log, kafka, list(calls.expected))
    assert events == dict.fromkeys(calls.expected, 1)


async def test_the_only_broker_is_killed_twice(make_writer: MakeWriter, kafka_node: KafkaNodes) -> None:
    """Ten calls talk while the only broker is killed with SIGKILL and started again, twice. Every record is on the log
    once and in order: what it had acknowledged survived, what it had not was held and sent again, and the idempotent
    producer kept it from being there twice."""
    writer = make_writer(kafka_node.settings)
    calls, over = Calls(writer, 10), asyncio.Event()
    talking = asyncio.create_task(calls.talk(over))
    await asyncio.sleep(1)
    for _ in range(2):
        await restarted(kafka_node)
        await asyncio.sleep(1)
    over.set()
    await talking
    await all_there_once(kafka_node.settings, calls, writer)
    assert b"producer_restarts_total 0.0" in writer._metrics.render()


def test_a_cluster_acknowledges_what_two_nodes_have(kafka_cluster: KafkaNodes) -> None:
    """Three copies, two of which must be in sync before a record is acknowledged: else the death of one node could
    take what was acknowledged with it. The groups' offsets are kept as well."""
    admin = AdminClient(connection_config(kafka_cluster.settings))
    topics = admin.list_topics(timeout=10).topics
    for name in (Topic.CALL_MEDIA.value, "__consumer_offsets"):
        assert {len(partition.replicas) for partition in topics[name].partitions.values()} == {3}
        resource = ConfigResource(ResourceType.TOPIC, name)
        (future,) = admin.describe_configs([resource]).values()
        assert future.result(10)["min.insync.replicas"].value == "2"


async def test_one_broker_of_three_is_killed(make_writer: MakeWriter, kafka_cluster: KafkaNodes) -> None:
    """Ten calls talk while the broker that leads one of their partitions is killed. The two others go on within
    seconds, without it; it comes back; nothing is missing, doubled or out of order."""
    kafka = kafka_cluster.settings
    writer = make_writer(kafka)
    calls, over = Calls(writer, 10), asyncio.Event()
    talking = asyncio.create_task(calls.talk(over))
    await asyncio.sleep(1)
    leader = leader_of_first_partition(kafka)
    kafka_cluster.kill_node(leader)
    await asyncio.sleep(1)
    over.set()
    await talking
    try:
        began = time.monotonic()
        assert await writer.drain(DRAIN_S), "two brokers of three do not take what the third one took"
        assert time.monotonic() - began < 30
    finally:
        kafka_cluster.spawn_node(leader)
        await asyncio.to_thread(kafka_cluster.wait_for_node, leader)
    await all_there_once(kafka, calls, writer)


async def test_one_broker_of_three_hangs(make_writer: MakeWriter, kafka_cluster: KafkaNodes) -> None:
    """Ten calls talk while the broker that leads one of their partitions is stopped with SIGSTOP: its connections stay
    open and nothing comes of them. The others take over, and when it wakes up, believing that it still leads, nothing
    is missing, doubled or out of order. Without a short time-out of requests the calls would wait for a minute."""
    kafka = kafka_cluster.settings
    writer = make_writer(kafka)
    calls, over = Calls(writer, 10), asyncio.Event()
    talking = asyncio.create_task(calls.talk(over))
    await asyncio.sleep(1)
    leader = leader_of_first_partition(kafka)
    kafka_cluster.pause_node(leader)
    await asyncio.sleep(1)
    over.set()
    await talking
    try:
        began = time.monotonic()
        assert await writer.drain(DRAIN_S), "two brokers of three do not take what the third one took"
        assert time.monotonic() - began < 30
    finally:
        kafka_cluster.resume_node(leader)
    await all_there_once(kafka, calls, writer)


async def test_a_stage_works_on_while_its_broker_is_killed(kafka_node: KafkaNodes) -> None:
    """A slow stage has 40 calls to do, the broker is killed and started again meanwhile: every call has its result,
    and all are committed in the end. A commit that failed while the broker was away must be made good, or the next
    start would pay for those calls again."""
    lab = Lab(kafka_node.settings, partitions=2)
    calls = [f"{lab.name}-{number}" for number in range(40)]
    lab.send(*calls)
    lab.behave = lambda call, attempt: 0.2
    async with lab.running(FAST):
        await lab.until(lambda: len(lab.handled) >= 5)
        await restarted(kafka_node)
        results = await lab.events(lab.results, 40)
        await asyncio.to_thread(eventually, lambda: lab.committed() == 40 or None, "all offsets committed")
    assert sorted(event.call_id for event in results) == sorted(calls)


async def test_a_killed_worker_is_replaced(kafka_node: KafkaNodes) -> None:
    """A worker that holds both partitions is killed with SIGKILL, in the middle of its calls and without a word. A
    second one gets its partitions when the session has timed out, and does all calls."""
    kafka = kafka_node.settings.model_copy(update={"session_timeout_ms": 6_000})
    lab = Lab(kafka, partitions=2)
    calls = [f"{lab.name}-{number}" for number in range(6)]
    lab.send(*calls)
    command = [sys.executable, "-m", hanging_stage.__name__, kafka.bootstrap_servers or "", lab.name]
    worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert worker.stdout is not None
        begun = [(await worker.stdout.readline()).decode().strip() for _ in calls]
    finally:
        worker.kill()
        await worker.wait()
    assert sorted(begun) == calls
    async with lab.running(FAST):
        results = await lab.events(lab.results, len(calls))
    assert sorted(event.call_id for event in results) == calls
    assert lab.committed() == len(calls)
