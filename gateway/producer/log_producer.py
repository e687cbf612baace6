"""Puts records and events on the log without ever making a socket wait.

`put` only appends to memory. A small window of what is held is with librdkafka, un-acknowledged; the rest waits in
a `Backlog`, whose policy for too much is: the oldest audio goes first, a `gap` record shows where. Nothing leaves
memory before the log has acknowledged it. Should the producer break (a fatal error, a topic that is away), a new
one is made after a pause and everything un-acknowledged is sent again in order: a record may then be on the log
twice, which its readers expect, but none is missing.

What is told of a stream waits until the log has the stream's start: a gateway killed in between would leave a call that
goes on for ever in every list, without a record that could be recorded.

Everything here happens on the event loop's thread.
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

log = logging.getLogger(__name__)

WINDOW_BYTES = 8 * 1024 * 1024
"""Un-acknowledged bytes with librdkafka: seconds of a full gateway's traffic, little to send again."""

_POLL_S = 0.02  # how often acknowledgements are fetched while any are awaited
_COMPLAIN_S = 10.0  # how often it is said at most that audio is being given up
_RESTART_PAUSE_S = 1.0  # before a broken producer is replaced, so that a lasting error does not spin

# Errors that another attempt cannot cure: resending would block everything behind the record for ever.
_HOPELESS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.INVALID_RECORD})

_StreamKey = tuple[str, str]
_OfStream = StreamStarted | DtmfReceived | StreamEnded


class LogProducer:
    """See the module. `start` before the first `put`; `close` at the end."""

    def __init__(
        self,
        kafka: KafkaSettings,
        metrics: Metrics,
        *,
        limit_bytes: int,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """limit_bytes: of everything held, un-acknowledged records included. Raises LogUnavailableError if no log
        is configured."""
        self._config: Config = producer_config(kafka) | {
            # We bound what is with librdkafka ourselves; these only must not be in the way.
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
        self._sent = 0  # number of the next item that is sent
        self._generation = 0  # of the producer: reports of an earlier one are not about our in-flight items
        self._broken: KafkaError | None = None
        self._producer: Producer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._dropped_ms: dict[_StreamKey, int] = {}
        # Streams whose start is in flight, and what is to be told of them.
        self._starting: dict[_StreamKey, list[_OfStream]] = {}
        self._complained_at = float("-inf")
        self._produced = {topic: metrics.produced.labels(topic) for topic in Topic}
        metrics.buffered.set_function(lambda: self.held_bytes)
        metrics.buffer_limit.set(limit_bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes that the log has not acknowledged yet."""
        return self._backlog.bytes + self._in_flight_bytes

    def start(self) -> None:
        """Makes the producer; needs a running event loop. The log need not be there yet."""
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(self._config, logger=log)
        self._partitions.start()

    def put(self, item: Item) -> None:
        """Takes a record of `call.media` or an event of `call.events`. Never waits, never fails."""
        self._backlog.append(item)
        if self.held_bytes > self._limit_bytes:
            self._count_dropped(self._backlog.shrink_to(self._limit_bytes - self._in_flight_bytes))
        self._pump()

    async def drain(self, timeout_s: float) -> bool:
        """Waits until the log has everything; False if it has not within the time."""
        deadline = self._loop.time() + timeout_s
        while self.held_bytes:
            self._poll()
            if self._loop.time() >= deadline:
                return not self.held_bytes
            await asyncio.sleep(0.005)
        return True

    async def probe(self, timeout_s: float) -> frozenset[str]:
        """Names of the topics the log has now. Raises LogUnavailableError when it does not answer."""
        self._poll()  # while nothing is awaited nobody else does, and the client's complaints would stay unread
        producer = self._producer
        if producer is None:
            raise LogUnavailableError("the producer is being replaced")
        try:
            # Of all topics: asking for one by name could create it, with settings nobody chose.
            metadata = await asyncio.to_thread(producer.list_topics, timeout=timeout_s)
        except KafkaException as error:
            raise LogUnavailableError(f"the log does not answer: {error.args[0].str()}") from None
        return frozenset(metadata.topics)

    def close(self) -> None:
        """Lets the producer go, and with it what the log has not acknowledged: `drain` first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._partitions.close()
        producer, self._producer = self._producer, None
        self._generation += 1
        if producer is not None:
            _discard(producer)

    def _pump(self) -> None:
        """Sends what the window has room for, and sees to it that acknowledgements will be fetched."""
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
        if partition is None:  # the next tick tries again; no item may overtake this one
            self._backlog.restore([item])
            return False
        if isinstance(item, _OfStream) and (waiting := self._starting.get((item.call_id, item.stream_id))) is not None:
            waiting.append(item)
            self._in_flight_bytes += size_of(item)
            return True
        if isinstance(item, StreamEnded):
            # All of the stream's audio went before: what was given up of it is final now.
            dropped_ms = self._dropped_ms.pop((item.call_id, item.stream_id), 0)
            item = item.model_copy(update={"dropped_ms": item.dropped_ms + dropped_ms})
        number = self._sent
        self._sent += 1
        self._in_flight[number] = item
        self._in_flight_bytes += size_of(item)
        if _is_start(item):
            self._starting.setdefault((item.call_id, item.stream_id), [])
        report = partial(self._reported, self._generation, number)
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
            self._forget(number)
            self._backlog.restore([item])
            return False
        except KafkaException as error:
            self._failed(number, error.args[0])
            return self._broken is None
        return True

    def _reported(self, generation: int, number: int, error: KafkaError | None, _message: object) -> None:
        """The log has a record, or librdkafka has given it up."""
        if generation != self._generation:
            return
        if error is not None:
            self._failed(number, error)
            return
        item = self._forget(number)
        self._produced[Topic.CALL_MEDIA if isinstance(item, MediaRecord) else Topic.CALL_EVENTS].inc()

    def _failed(self, number: int, error: KafkaError) -> None:
        if error.code() not in _HOPELESS:
            self._broken = error  # the item stays in flight and is sent again by the next producer
            return
        item = self._forget(number)
        log.error("the log refuses a record for good, it is left out: %s", error.str())
        if isinstance(item, MediaRecord) and item.type is RecordType.MEDIA:
            self._count_dropped([item])
            self._backlog.restore([gap_for(item)])

    def _forget(self, number: int) -> Item:
        item = self._in_flight.pop(number)
        self._in_flight_bytes -= size_of(item)
        if _is_start(item):
            waiting = self._starting.pop((item.call_id, item.stream_id), [])
            self._in_flight_bytes -= sum(map(size_of, waiting))
            self._backlog.restore(waiting)
        return item

    def _restart(self, error: KafkaError) -> None:
        log.error("the producer failed and is replaced, nothing is given up: %s", error.str())
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
        if generation == self._generation:  # else the writer has been closed
            self._producer = Producer(self._config, logger=log)
            self._pump()

    def _count_dropped(self, records: list[MediaRecord]) -> None:
        for record in records:
            ms = audio_ms(record)
            key = (record.call_id, record.stream_id)
            self._dropped_ms[key] = self._dropped_ms.get(key, 0) + ms
            self._metrics.dropped_ms.inc(ms)
            self._metrics.dropped_bytes.inc(len(record.payload))
            self._metrics.dropped_records.inc()
        if records and self._loop.time() - self._complained_at > _COMPLAIN_S:
            self._complained_at = self._loop.time()
            log.error("the log does not keep up, the oldest audio is being given up (%d bytes held)", self.held_bytes)


def _is_start(item: Item) -> TypeGuard[MediaRecord]:
    return isinstance(item, MediaRecord) and item.type is RecordType.START


def _discard(producer: Producer) -> None:
    """Ends a producer in a thread: its destructor waits for its connections."""

    def end(doomed: list[Producer]) -> None:
        doomed[0].purge()
        doomed[0].flush(0)
        doomed.clear()

    threading.Thread(target=end, args=([producer],), name="discard-producer", daemon=True).start()
