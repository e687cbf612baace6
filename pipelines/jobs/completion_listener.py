"""Notices of finished orders, from the log to whoever waits for one.

They only save time and questions. A notice may come twice, for an order of another process, or never.
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

_KEPT = 1_000  # notices remembered that came before anybody waited
_RETRY_S = 5.0  # before the log is asked again for the topic


class CompletionListener:
    """Thread-safe: told by one thread, waited at by tasks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._waiting: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self._closed = threading.Event()

    @property
    def closed(self) -> threading.Event:
        """Set when nobody waits any more."""
        return self._closed

    def close(self) -> None:
        """Lets go of the log."""
        self._closed.set()

    def notify(self, remote_id: str) -> None:
        """An order is done, for better or worse."""
        with self._lock:
            self._told[remote_id] = None
            while len(self._told) > _KEPT:
                self._told.popitem(last=False)
            waiting = self._waiting.get(remote_id)
        if waiting:
            loop, event = waiting
            loop.call_soon_threadsafe(event.set)

    async def wait(self, remote_id: str, seconds: float) -> None:
        """Returns when the order is told to be done, once, or after so many seconds."""
        event = asyncio.Event()
        with self._lock:
            if remote_id in self._told:
                del self._told[remote_id]
                return
            self._waiting[remote_id] = (asyncio.get_running_loop(), event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._told.pop(remote_id, None)
                self._waiting.pop(remote_id, None)


def listen(kafka: KafkaSettings) -> CompletionListener:
    """A board that is told what comes on the log from now on, by a thread of its own. Every process reads all notices:
    which of them waits for an order nobody knows. Raises LogUnavailableError when no log is configured."""
    board = CompletionListener()
    consumer = Consumer(consumer_config(kafka, "notices"))  # a name is required; no group is joined
    threading.Thread(target=_read, args=(consumer, board), name="notices", daemon=True).start()
    return board


def _read(consumer: Consumer, board: CompletionListener) -> None:
    while not (partitions := _partitions(consumer)):
        if board.closed.wait(_RETRY_S):
            return
    consumer.assign(partitions)
    logger.info("listening for notices of finished orders")
    while not board.closed.is_set():
        message = consumer.poll(0.5)
        if message is None or message.error() is not None:
            continue
        try:
            board.notify(OrderNotice.model_validate_json(message.value() or b"").remote_id)
        except ValidationError:
            logger.warning("a record on %s that is no notice", Topic.PROVIDER_NOTICES)
    consumer.close()


def _partitions(consumer: Consumer) -> list[TopicPartition]:
    """All of them, at their end."""
    try:
        found = consumer.list_topics(Topic.PROVIDER_NOTICES, timeout=5.0).topics[Topic.PROVIDER_NOTICES].partitions
    except (KafkaException, KeyError) as error:
        logger.debug("no notices yet: %s", error)
        return []
    return [TopicPartition(Topic.PROVIDER_NOTICES, number, OFFSET_END) for number in found]
