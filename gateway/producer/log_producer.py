"""Writes records and events to the log without making a socket wait.

`put` only appends to memory. A small window of unacknowledged items is inside librdkafka; the rest waits in a
`SendBuffer`. If the buffer is full, the oldest audio is discarded, and a `gap` record marks its position. No item
leaves memory before the log has acknowledged it. If the producer fails (a fatal error, a missing topic), a new one
replaces it after a pause and sends all unacknowledged items again in order. A record may then be on the log twice,
which its readers handle, but none is missing.

Events of a stream wait until the log has acknowledged the stream's start. If the gateway were killed in between, a call
without any record would remain in every list of calls.

All methods run on the event loop's thread.
"""

import asyncio
import logging
import threading
from functools import partial
from typing import TypeGuard

from confluent_kafka import KafkaError, KafkaException, Producer

from core.settings import KafkaSettings
from gateway.metrics import Metrics
from gateway.producer.partition_resolver import PartitionResolver
from gateway.producer.send_buffer import Item, SendBuffer, audio_ms, gap_for, size_of
from redpanda.client import Config, LogUnavailableError, producer_config
from schemas.events import DtmfReceived, StreamEnded, StreamStarted
from schemas.media import MediaRecord, RecordType, to_headers
from schemas.topics import Topic

logger = logging.getLogger(__name__)

WINDOW_BYTES = 8 * 1024 * 1024
"""Unacknowledged bytes inside librdkafka: seconds of a busy gateway's traffic, and little to send again."""

_POLL_S = 0.02  # interval of fetching acknowledgements while any are expected
_WARN_INTERVAL_S = 10.0  # shortest time between two errors about discarded audio
_RESTART_PAUSE_S = 1.0  # before a failed producer is replaced, so that a lasting error does not cause a busy loop

# Errors that another attempt cannot repair; resending would block all later records forever.
_PERMANENT_ERRORS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.INVALID_RECORD})

_StreamKey = tuple[str, str]
_StreamEvent = StreamStarted | DtmfReceived | StreamEnded


class LogProducer:
    """Producer of one gateway process; see the module. Call `start` before the first `put`, and `close` at the end."""

    def __init__(
        self,
        kafka: KafkaSettings,
        metrics: Metrics,
        *,
        limit_bytes: int,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """Configures the producer; connects to nothing.

        limit_bytes: limit of all items in memory, unacknowledged ones included. window_bytes: limit of the items inside
        librdkafka. Raises LogUnavailableError if no log is configured.
        """
        self._config: Config = producer_config(kafka) | {
            # `window_bytes` limits librdkafka's queue, so its own limits must be larger.
            "queue.buffering.max.kbytes": 4 * window_bytes // 1024,
            "queue.buffering.max.messages": 1_000_000,
        }
        self._metrics = metrics
        self._partitions = PartitionResolver(kafka)
        self._limit_bytes = limit_bytes
        self._window_bytes = min(window_bytes, limit_bytes // 2)
        self._backlog = SendBuffer()
        self._in_flight: dict[int, Item] = {}
        self._in_flight_bytes = 0
        self._sent = 0  # number of the next item to send
        self._generation = 0  # number of the producer; delivery reports of an earlier one are ignored
        self._broken: KafkaError | None = None
        self._producer: Producer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._dropped_ms: dict[_StreamKey, int] = {}
        # Streams whose start is not acknowledged yet, with their waiting events.
        self._starting: dict[_StreamKey, list[_StreamEvent]] = {}
        self._last_warning_s = float("-inf")
        self._produced = {topic: metrics.produced.labels(topic) for topic in Topic}
        metrics.buffered.set_function(lambda: self.held_bytes)
        metrics.buffer_limit.set(limit_bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes in memory that the log has not acknowledged yet."""
        return self._backlog.bytes + self._in_flight_bytes

    def start(self) -> None:
        """Creates the producer. Needs a running event loop; the log may still be unavailable."""
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(self._config, logger=logger)
        self._partitions.start()

    def put(self, item: Item) -> None:
        """Accepts a record of `call.media` or an event of `call.events`. Never waits, never fails."""
        self._backlog.append(item)
        if self.held_bytes > self._limit_bytes:
            self._count_dropped(self._backlog.shrink_to(self._limit_bytes - self._in_flight_bytes))
        self._pump()

    async def drain(self, timeout_s: float) -> bool:
        """Waits until the log has acknowledged all items. Returns False after the timeout."""
        deadline = self._loop.time() + timeout_s
        while self.held_bytes:
            self._poll()
            if self._loop.time() >= deadline:
                return not self.held_bytes
            await asyncio.sleep(0.005)
        return True

    async def probe(self, timeout_s: float) -> frozenset[str]:
        """Returns the names of the log's topics. Raises LogUnavailableError when it does not answer."""
        self._poll()  # serves the client's log callbacks, which nothing else does while no item is in flight
        producer = self._producer
        if producer is None:
            raise LogUnavailableError("the producer is being replaced")
        try:
            # Lists all topics, because a request for one by name could create it with the broker's default settings.
            metadata = await asyncio.to_thread(producer.list_topics, timeout=timeout_s)
        except KafkaException as error:
            raise LogUnavailableError(f"the log does not answer: {error.args[0].str()}") from None
        return frozenset(metadata.topics)

    def close(self) -> None:
        """Closes the producer and discards unacknowledged items; call `drain` before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._partitions.close()
        producer, self._producer = self._producer, None
        self._generation += 1
        if producer is not None:
            _discard(producer)

    def _pump(self) -> None:
        """Sends items up to the window's size and schedules the fetch of acknowledgements."""
        while self._producer and len(self._backlog) and self._in_flight_bytes < self._window_bytes:
            if not self._send(self._producer, self._backlog.popleft()):
                break
        if self._timer is None and self._producer and self.held_bytes:
            self._timer = self._loop.call_later(_POLL_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._poll()

    def _poll(self) -> None:
        if self._producer is not None:
            self._producer.poll(0)
        if self._broken is not None:
            self._restart(self._broken)
        self._pump()

    def _send(self, producer: Producer, item: Item) -> bool:
        partition = self._partitions.partition_for(item.call_id)
        if partition is None:  # the next tick tries again; later items must not overtake this one
            self._backlog.restore([item])
            return False
        if (
            isinstance(item, _StreamEvent)
            and (waiting := self._starting.get((item.call_id, item.stream_id))) is not None
        ):
            waiting.append(item)
            self._in_flight_bytes += size_of(item)
            return True
        if isinstance(item, StreamEnded):
            # All audio of the stream was handled before, so the amount of its discarded audio is final.
            dropped_ms = self._dropped_ms.pop((item.call_id, item.stream_id), 0)
            item = item.model_copy(update={"dropped_ms": item.dropped_ms + dropped_ms})
        number = self._sent
        self._sent += 1
        self._in_flight[number] = item
        self._in_flight_bytes += size_of(item)
        if _is_start(item):
            self._starting.setdefault((item.call_id, item.stream_id), [])
        report = partial(self._on_delivery, self._generation, number)
        try:
            if isinstance(item, MediaRecord):
                producer.produce(
                    Topic.CALL_MEDIA,
                    item.payload,
                    item.call_id,
                    partition,
                    headers=to_headers(item),
                    on_delivery=report,
                )
            else:
                producer.produce(Topic.CALL_EVENTS, item.model_dump_json(), item.call_id, partition, on_delivery=report)
        except BufferError:
            self._settle(number)
            self._backlog.restore([item])
            return False
        except KafkaException as error:
            self._on_error(number, error.args[0])
            return self._broken is None
        return True

    def _on_delivery(self, generation: int, number: int, error: KafkaError | None, _message: object) -> None:
        """Handles a delivery report: the log has the record, or librdkafka reports an error."""
        if generation != self._generation:
            return
        if error is not None:
            self._on_error(number, error)
            return
        item = self._settle(number)
        self._produced[Topic.CALL_MEDIA if isinstance(item, MediaRecord) else Topic.CALL_EVENTS].inc()

    def _on_error(self, number: int, error: KafkaError) -> None:
        if error.code() not in _PERMANENT_ERRORS:
            self._broken = error  # the item stays in flight; the next producer sends it again
            return
        item = self._settle(number)
        logger.error("the log rejected a record permanently; the record is discarded: %s", error.str())
        if isinstance(item, MediaRecord) and item.type is RecordType.MEDIA:
            self._count_dropped([item])
            self._backlog.restore([gap_for(item)])

    def _settle(self, number: int) -> Item:
        item = self._in_flight.pop(number)
        self._in_flight_bytes -= size_of(item)
        if _is_start(item):
            waiting = self._starting.pop((item.call_id, item.stream_id), [])
            self._in_flight_bytes -= sum(map(size_of, waiting))
            self._backlog.restore(waiting)
        return item

    def _restart(self, error: KafkaError) -> None:
        logger.error("the producer failed and is replaced; no record is lost: %s", error.str())
        self._metrics.producer_restarts.inc()
        self._broken = None
        self._generation += 1
        waiting = [event for events in self._starting.values() for event in events]
        self._backlog.restore([*self._in_flight.values(), *waiting])
        self._in_flight.clear()
        self._starting.clear()
        self._in_flight_bytes = 0
        producer, self._producer = self._producer, None
        if producer is not None:
            _discard(producer)
        self._loop.call_later(_RESTART_PAUSE_S, self._replace, self._generation)

    def _replace(self, generation: int) -> None:
        if generation == self._generation:  # otherwise this LogProducer was closed
            self._producer = Producer(self._config, logger=logger)
            self._pump()

    def _count_dropped(self, records: list[MediaRecord]) -> None:
        for record in records:
            ms = audio_ms(record)
            key = (record.call_id, record.stream_id)
            self._dropped_ms[key] = self._dropped_ms.get(key, 0) + ms
            self._metrics.dropped_ms.inc(ms)
            self._metrics.dropped_bytes.inc(len(record.payload))
            self._metrics.dropped_records.inc()
        if records and self._loop.time() - self._last_warning_s > _WARN_INTERVAL_S:
            self._last_warning_s = self._loop.time()
            logger.error("the log is too slow; the oldest audio is being discarded (%d bytes held)", self.held_bytes)


def _is_start(item: Item) -> TypeGuard[MediaRecord]:
    return isinstance(item, MediaRecord) and item.type is RecordType.START


def _discard(producer: Producer) -> None:
    """Destroys a producer in a thread, because its destructor waits for its connections."""

    def end(holder: list[Producer]) -> None:
        holder[0].purge()
        holder[0].flush(0)
        holder.clear()  # drops the last reference

    threading.Thread(target=end, args=([producer],), name="discard-producer", daemon=True).start()
