"""On which partition each call's records go, so that a call ends where it began: see redpanda.partition_layout.

While only one layout is in question that is arithmetic. After partitions were added, a call that this gateway has not
heard of may have begun at another one, on its old place: then call.events says where its first event lies. A thread
reads that; whoever asks meanwhile is told to wait, and never waits here.
"""

import logging
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config
from redpanda.partition_expansion import read_announcements
from redpanda.partition_layout import MEMORY_MS, Layouts, layouts_of, trusted
from redpanda.range_reader import OffsetRange, read_range
from schemas.events import PartitionLayoutChanged
from schemas.topics import Topic

log = logging.getLogger(__name__)

REFRESH_S = 10.0
"""How old what is known of the layouts may be. `redpanda.partition_expansion.NOTICE_S` is longer."""

BY_KEY = -1
"""Where librdkafka wants: there is no topic yet whose partitions could be counted."""

_TIMEOUT_S = 3.0
_AGAIN_S = 0.2


class PartitionResolver:
    """Thread-safe. `start` before the first question; `close` at the end."""

    def __init__(self, kafka: KafkaSettings, *, refresh_s: float = REFRESH_S) -> None:
        """Raises LogUnavailableError if no log is configured."""
        self._config = connection_config(kafka) | {"group.id": "audiotext-places", "enable.auto.commit": False}
        self._kafka = kafka
        self._refresh_s = refresh_s
        self._layouts: Layouts | None = None
        self._partitions = 0  # as last told
        self._announced: list[PartitionLayoutChanged] = []
        self._announced_until = 0
        self._seen: dict[int, set[bytes]] = {}  # of each partition of call.events, calls that lie there
        self._seen_until: dict[int, int] = {}
        # Where calls are. Two generations: what was not asked for in one to two days is forgotten.
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._turned_at = time.monotonic()
        self._wanted: set[str] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()

    def start(self) -> None:
        """Begins to read. The log need not be there yet."""
        threading.Thread(target=self._run, name="places", daemon=True).start()

    def close(self) -> None:
        """Ends it soon."""
        self._closed.set()
        self._wake.set()

    def partition_for(self, call_id: str) -> int | None:
        """The call's partition; BY_KEY if librdkafka may choose; None: not known yet, ask again in a moment."""
        with self._lock:
            place = self._young.get(call_id)
            if place is None and (place := self._old.pop(call_id, None)) is not None:
                self._young[call_id] = place
            if place is not None or self._layouts is None:
                return place
            if not self._partitions:
                return BY_KEY
            places = self._layouts.candidate_partitions(call_id, _now_ms())
            if len(places) == 1:
                self._young[call_id] = places[0]
                return places[0]
            self._wanted.add(call_id)
            self._wake.set()
            return None

    def _run(self) -> None:
        consumer: Consumer | None = None
        refreshed_at = float("-inf")
        while not self._closed.is_set():
            try:
                consumer = consumer or Consumer(self._config)
                if time.monotonic() - refreshed_at >= self._refresh_s:
                    self._refresh(consumer)
                    refreshed_at = time.monotonic()
                self._look(consumer)
            except (KafkaException, LogUnavailableError) as error:
                log.debug("the places of calls cannot be read, trying again: %s", error)
                self._closed.wait(_AGAIN_S)
                continue
            except Exception:  # whatever it is: without this thread no new call would get to the log
                log.exception("the places of calls cannot be read, trying again")
                self._closed.wait(_TIMEOUT_S)
                continue
            self._wake.wait(max(0.0, refreshed_at + self._refresh_s - time.monotonic()))
            self._wake.clear()
        if consumer is not None:
            consumer.close()

    def _refresh(self, consumer: Consumer) -> None:
        """Asks for the number of partitions and for layouts announced since. Raises KafkaException,
        LogUnavailableError."""
        found = consumer.list_topics(timeout=_TIMEOUT_S).topics
        if Topic.LOG_LAYOUTS in found:
            _, end = consumer.get_watermark_offsets(TopicPartition(Topic.LOG_LAYOUTS, 0), timeout=_TIMEOUT_S)
            if end > self._announced_until:
                self._announced += read_announcements(self._kafka, self._announced_until, end)
                self._announced_until = end
        # A call's audio and its events lie at the same place.
        number = min(len(found[one].partitions) if one in found else 0 for one in (Topic.CALL_MEDIA, Topic.CALL_EVENTS))
        with self._lock:
            self._partitions = trusted(number, self._partitions, announced=bool(self._announced))
            layouts = layouts_of(self._announced, self._partitions)
            if self._layouts is not None and layouts != self._layouts:
                log.info("partitions of call.media, and from when on (ms): %s", layouts.history)
            self._layouts = layouts
            if time.monotonic() - self._turned_at > MEMORY_MS / 1000:
                self._turned_at = time.monotonic()
                self._old, self._young = self._young, {}
                self._seen, self._seen_until = {}, {}

    def _look(self, consumer: Consumer) -> None:
        """Finds the calls that were asked for. Raises KafkaException, LogUnavailableError."""
        with self._lock:
            wanted, layouts = list(self._wanted), self._layouts
        if not wanted or layouts is None:
            return
        now_ms = _now_ms()
        candidates = {call_id: layouts.candidate_partitions(call_id, now_ms) for call_id in wanted}
        for partition in sorted({place for places in candidates.values() for place in places}):
            self._catch_up(consumer, partition)
        for call_id, places in candidates.items():
            key = call_id.encode()
            began = (place for place in places if key in self._seen[place])
            place = next(began, None)
            if place is None:
                place = layouts.partition_for_new_call(call_id, now_ms)
            with self._lock:
                self._young[call_id] = place
                self._wanted.discard(call_id)

    def _catch_up(self, consumer: Consumer, partition: int) -> None:
        """Reads which calls lie on a partition of call.events, as far as it goes now."""
        if partition not in self._seen_until:
            since = TopicPartition(Topic.CALL_EVENTS, partition, _now_ms() - MEMORY_MS)
            (place,) = consumer.offsets_for_times([since], timeout=_TIMEOUT_S)
            if place.offset < 0:  # nothing so young
                _, place.offset = consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
            self._seen_until[partition] = place.offset
            self._seen[partition] = set()
        rest = OffsetRange(Topic.CALL_EVENTS, partition, self._seen_until[partition])
        for message in read_range(self._kafka, rest, self._closed):
            self._seen[partition].add(message.key() or b"")
            self._seen_until[partition] = (message.offset() or 0) + 1


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
