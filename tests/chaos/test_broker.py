"""Death of a broker: nothing is lost. Apache Kafka is killed, paused and restarted under load."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from core.settings import KafkaSettings
from gateway.metrics import Metrics
from gateway.producer.log_producer import LogProducer
from redpanda.client import connection_config
from schemas.topics import Topic
from tests.chaos import hanging_stage
from tests.chaos.calls import Calls, OnLog, events_on_log, media_on_log
from tests.support.consumer_loop_lab import FAST, Lab
from tests.support.kafka_backend import KafkaNodes, restarted
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
DRAIN_S = 90
CATCH_UP_S = 20
MakeWriter = Callable[[KafkaSettings], LogProducer]


@pytest.fixture
async def make_writer() -> AsyncIterator[MakeWriter]:
    """Returns a function that creates and starts gateway writers, and closes them at the end."""
    writers: list[LogProducer] = []

    def make(kafka: KafkaSettings) -> LogProducer:
        writers.append(LogProducer(kafka, Metrics(), limit_bytes=256 << 20))
        writers[-1].start()
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def leader_of_first_partition(kafka: KafkaSettings) -> int:
    """Returns the number, from 0, of the node that leads the first partition of call.media."""
    metadata = AdminClient(connection_config(kafka)).list_topics(timeout=10)
    leader: int = metadata.topics[Topic.CALL_MEDIA].partitions[0].leader
    return leader - 1


async def all_there_once(kafka: KafkaSettings, calls: Calls, writer: LogProducer) -> None:
    """Waits until the writer has sent everything. Then each call is on the log once, complete and in order."""
    assert await writer.drain(DRAIN_S), f"{writer.held_bytes} bytes are still held"
    deadline = time.monotonic() + CATCH_UP_S
    found: dict[str, list[OnLog]] = {}
    # A node that comes back gives an error or an old end of the log until it follows the new leader.
    while found != calls.expected and time.monotonic() < deadline:
        with contextlib.suppress(KafkaException):
            found = await asyncio.to_thread(media_on_log, kafka, list(calls.expected))
    for call, expected in calls.expected.items():
        assert found.get(call) == expected
    events = await asyncio.to_thread(events_on_log, kafka, list(calls.expected))
    assert events == dict.fromkeys(calls.expected, 1)


async def test_the_only_broker_is_killed_twice(make_writer: MakeWriter, kafka_node: KafkaNodes) -> None:
    """Kills the only broker with SIGKILL twice, while ten calls write to it.

    Every record is on the log once and in order: acknowledged records survive, and the others are kept and sent again
    by the idempotent producer.
    """
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


def test_a_cluster_needs_two_copies_to_acknowledge(kafka_cluster: KafkaNodes) -> None:
    """Checks the topics of a cluster, also those of the group offsets: three copies, two of them in sync.

    Otherwise the death of one node could lose an acknowledged record.
    """
    admin = AdminClient(connection_config(kafka_cluster.settings))
    topics = admin.list_topics(timeout=10).topics
    for name in (Topic.CALL_MEDIA.value, "__consumer_offsets"):
        assert {len(partition.replicas) for partition in topics[name].partitions.values()} == {3}
        resource = ConfigResource(ResourceType.TOPIC, name)
        (future,) = admin.describe_configs([resource]).values()
        assert future.result(10)["min.insync.replicas"].value == "2"


async def test_one_broker_of_three_is_killed(make_writer: MakeWriter, kafka_cluster: KafkaNodes) -> None:
    """Kills the broker that leads a partition, while ten calls write to it, and starts it again.

    The others continue within seconds. Nothing is missing, doubled or out of order.
    """
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
    """Stops the broker that leads a partition with SIGSTOP, while ten calls write to it.

    Its connections stay open without answers. The others take over. When it continues and still takes itself for the
    leader, nothing is missing, doubled or out of order. Without a short request timeout the calls would wait for a
    minute.
    """
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
    """Kills and restarts the broker while a slow stage processes 40 calls.

    Every call has its result, and all offsets are committed. A failed commit must be repeated, or the next start pays
    for those calls again.
    """
    lab = Lab(kafka_node.settings, partitions=2)
    calls = [f"{lab.name}-{number}" for number in range(40)]
    lab.send(*calls)
    lab.behave = lambda call, attempt: 0.2
    async with lab.running(FAST):
        await lab.until(lambda: len(lab.handled) >= 5)
        await restarted(kafka_node)
        results = await lab.events(lab.results, 40)
        await asyncio.to_thread(wait_for, lambda: lab.committed() == 40 or None, "all offsets committed")
    assert sorted(event.call_id for event in results) == sorted(calls)


async def test_a_killed_worker_is_replaced(kafka_node: KafkaNodes) -> None:
    """Kills a worker that holds both partitions with SIGKILL in the middle of its calls.

    A second worker gets the partitions after the session timeout and processes all calls.
    """
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
