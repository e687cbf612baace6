"""Live calls first: while a stage is behind with them, no replay asks an engine."""

import asyncio
import logging
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from core.settings import KafkaSettings
from redpanda.client import connection_config

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_TIMEOUT_S = 5.0
# Records that a stage may be behind while it goes on from one look to the next: what a replay itself tells passes by.
_FEW = 32


class LivePriorityGate:
    """`await` it before each job: it returns once every live stage keeps up. Belongs to one event loop.

    groups: topic by consumer group. A group that has never committed anything is no stage that runs here.
    """

    def __init__(self, kafka: KafkaSettings, groups: Mapping[str, str], look_s: float = _LOOK_S) -> None:
        """look_s: between two looks at the groups."""
        self._kafka = kafka
        self._groups = groups
        self._look_s = look_s
        self._consumers: dict[str, Consumer] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._looked_s = float("-inf")
        self._behind = False
        self._turn = asyncio.Lock()

    async def __call__(self) -> None:
        """Returns when a replay's job may begin."""
        async with self._turn:
            waiting = False
            while await self._is_behind():
                if not waiting:
                    logger.info("live calls are waiting for a stage: replays wait for them")
                waiting = True
                await asyncio.sleep(self._look_s)

    async def _is_behind(self) -> bool:
        now = time.monotonic()
        if now - self._looked_s >= self._look_s:
            self._looked_s = now
            try:
                self._behind = any([await asyncio.to_thread(self._look, *item) for item in self._groups.items()])
            except KafkaException as error:
                logger.warning("the log does not say how far the live stages are: %s", error)
        return self._behind

    def _look(self, group: str, topic: str) -> bool:
        """Whether the group is far behind, or stands still with something to do."""
        consumer = self._consumers.get(group)
        if consumer is None:  # never a member of the group: it only asks
            config = connection_config(self._kafka) | {"group.id": group, "enable.auto.commit": False}
            consumer = self._consumers[group] = Consumer(config)
        numbers = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        behind = False
        for place in consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=_TIMEOUT_S):
            if place.offset < 0:
                continue
            there = TopicPartition(topic, place.partition)
            low, high = consumer.get_watermark_offsets(there, timeout=_TIMEOUT_S, cached=False) or (0, 0)
            position = max(place.offset, low)
            stands = self._positions.get((group, place.partition)) == position
            behind = behind or (high > position and (stands or high - position > _FEW))
            self._positions[group, place.partition] = position
        return behind
