"""Delivers notices of finished orders from the log to the tasks that wait for them.

Notices only save time and requests. A notice may arrive twice, for an order of another process, or never.
"""

import asyncio
import logging
import threading
from collections import OrderedDict

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition
from pydantic import ValidationError

from core.settings import KafkaSettings
from redpanda.client import consumer_config
from schemas.events import OrderNotice
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_KEPT = 1_000  # early notices that are remembered until a task waits for them
_RETRY_S = 5.0  # between two lookups of the topic


class CompletionListener:
    """Notices by order. Thread-safe: one thread notifies, tasks of event loops wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._early: OrderedDict[str, None] = OrderedDict()
        self._waiting: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self._closed = threading.Event()

    @property
    def closed(self) -> threading.Event:
        """Event that is set when no task waits any more."""
        return self._closed

    def close(self) -> None:
        """Stops reading the log."""
        self._closed.set()

    def notify(self, remote_id: str) -> None:
        """Wakes the task that waits for this order. The order may have succeeded or failed."""
        with self._lock:
            self._early[remote_id] = None
            while len(self._early) > _KEPT:
                self._early.popitem(last=False)
            waiting = self._waiting.get(remote_id)
        if waiting:
            loop, event = waiting
            loop.call_soon_threadsafe(event.set)

    async def wait(self, remote_id: str, seconds: float) -> None:
        """Returns at the first notice of the order, or after that many seconds."""
        event = asyncio.Event()
        with self._lock:
            if remote_id in self._early:
                del self._early[remote_id]
                return
            self._waiting[remote_id] = (asyncio.get_running_loop(), event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._early.pop(remote_id, None)
                self._waiting.pop(remote_id, None)


def listen(kafka: KafkaSettings) -> CompletionListener:
    """Returns a listener that a background thread feeds with the notices on the log from now on.

    Every process reads all notices, since none knows which process waits for an order. Raises LogUnavailableError if
    no log is configured.
    """
    listener = CompletionListener()
    consumer = Consumer(consumer_config(kafka, "notices"))  # a name is required; no group is joined
    threading.Thread(target=_read, args=(consumer, listener), name="notices", daemon=True).start()
    return listener


def _read(consumer: Consumer, listener: CompletionListener) -> None:
    while not (partitions := _partitions(consumer)):
        if listener.closed.wait(_RETRY_S):
            return
    consumer.assign(partitions)
    logger.info("listening for notices of finished orders")
    while not listener.closed.is_set():
        message = consumer.poll(0.5)
        if message is None or message.error() is not None:
            continue
        try:
            listener.notify(OrderNotice.model_validate_json(message.value() or b"").remote_id)
        except ValidationError:
            logger.warning("skipped an invalid notice on %s", Topic.PROVIDER_NOTICES)
    consumer.close()


def _partitions(consumer: Consumer) -> list[TopicPartition]:
    """Returns all partitions of the topic, at their ends."""
    try:
        found = consumer.list_topics(Topic.PROVIDER_NOTICES, timeout=5.0).topics[Topic.PROVIDER_NOTICES].partitions
    except (KafkaException, KeyError) as error:
        logger.debug("the topic of notices is not available yet: %s", error)
        return []
    return [TopicPartition(Topic.PROVIDER_NOTICES, number, OFFSET_END) for number in found]
