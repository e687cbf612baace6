"""Priority of live calls: replays wait while a live stage has a backlog."""

import asyncio
import logging
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from core.settings import KafkaSettings
from redpanda.client import connection_config

logger = logging.getLogger(__name__)

_CHECK_S = 1.0
_TIMEOUT_S = 5.0
# Lag that does not count as a backlog while a stage makes progress: a replay's own events pass through the stages too.
_FEW = 32


class LivePriorityGate:
    """Gate to await before each job: it opens when no live stage has a backlog. Belongs to one event loop.

    groups: topic by consumer group. A group without committed offsets is ignored: its stage does not run here.
    """

    def __init__(self, kafka: KafkaSettings, groups: Mapping[str, str], check_s: float = _CHECK_S) -> None:
        """check_s: interval between two checks of the groups."""
        self._kafka = kafka
        self._groups = groups
        self._check_s = check_s
        self._consumers: dict[str, Consumer] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._checked_s = float("-inf")
        self._behind = False
        self._lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Returns when a replay's job may begin."""
        async with self._lock:
            waiting = False
            while await self._is_behind():
                if not waiting:
                    logger.info("replays wait: a live stage has a backlog")
                waiting = True
                await asyncio.sleep(self._check_s)

    async def _is_behind(self) -> bool:
        now = time.monotonic()
        if now - self._checked_s >= self._check_s:
            self._checked_s = now
            try:
                self._behind = any([await asyncio.to_thread(self._has_backlog, *one) for one in self._groups.items()])
            except KafkaException as error:
                logger.warning("the lag of the live stages cannot be read: %s", error)
        return self._behind

    def _has_backlog(self, group: str, topic: str) -> bool:
        """True if the group is far behind, or makes no progress with records left to process."""
        consumer = self._consumers.get(group)
        if consumer is None:  # only reads the group's offsets and never joins it
            config = connection_config(self._kafka) | {"group.id": group, "enable.auto.commit": False}
            consumer = self._consumers[group] = Consumer(config)
        numbers = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        behind = False
        for committed in consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=_TIMEOUT_S):
            if committed.offset < 0:
                continue
            partition = TopicPartition(topic, committed.partition)
            low, high = consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_S, cached=False) or (0, 0)
            position = max(committed.offset, low)
            stands_still = self._positions.get((group, committed.partition)) == position
            behind = behind or (high > position and (stands_still or high - position > _FEW))
            self._positions[group, committed.partition] = position
        return behind
