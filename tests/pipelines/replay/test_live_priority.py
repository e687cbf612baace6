"""Replays wait for live calls."""

import asyncio
import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from core.settings import KafkaSettings
from pipelines.replay.live_priority import LivePriorityGate
from redpanda.client import connection_config, consumer_config
from tests.support.kafka_backend import plain_producer_config

_LOOK_S = 0.05


class Stage:
    """A topic and a group that reads it as the test says."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.name = f"stage-{uuid.uuid4().hex[:8]}"
        admin = AdminClient(connection_config(kafka))  # it must live until the topic is there
        for created in admin.create_topics([NewTopic(self.name, 1, 1)]).values():
            created.result(10)
        self._producer = Producer(plain_producer_config(kafka))
        self._consumer = Consumer(consumer_config(kafka, self.name))

    def send(self, records: int) -> None:
        for _ in range(records):
            self._producer.produce(self.name, value=b"a call")
        assert self._producer.flush(10) == 0

    def commit(self, offset: int) -> None:
        self._consumer.commit(offsets=[TopicPartition(self.name, 0, offset)], asynchronous=False)


@pytest.fixture
def stage(kafka: KafkaSettings) -> Stage:
    """A stage that nobody else knows."""
    return Stage(kafka)


async def _waits(first: LivePriorityGate) -> "asyncio.Task[None]":
    """A job that waits for its turn, after several looks."""
    for _ in range(2):  # the first look cannot tell whether the stage stands still
        with_turn = asyncio.create_task(first())
        done, _pending = await asyncio.wait([with_turn], timeout=1)
        if not done:
            return with_turn
        await asyncio.sleep(_LOOK_S)
    raise AssertionError("it does not wait")


async def test_a_call_that_waits_goes_first(kafka: KafkaSettings, stage: Stage) -> None:
    """Two live calls come, of which the stage has done one and is at the other: no replay's job begins until that one
    is done, too. If it failed, a replay of a month would take the engine that callers wait for."""
    stage.send(2)
    stage.commit(1)
    job = await _waits(LivePriorityGate(kafka, {stage.name: stage.name}, _LOOK_S))

    stage.commit(2)

    await asyncio.wait_for(job, 30)


async def test_a_stage_that_does_not_run_here_holds_nothing_up(kafka: KafkaSettings, stage: Stage) -> None:
    """There are calls, and a group that has never read any: whoever runs without embeddings can replay all the same."""
    stage.send(2)
    first = LivePriorityGate(kafka, {stage.name: stage.name}, _LOOK_S)
    for _ in range(3):
        await asyncio.wait_for(first(), 30)
        await asyncio.sleep(_LOOK_S)
