"""Consumer loop with a controllable handler on a real log."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from core.clock import Clock
from core.settings import KafkaSettings, RetrySettings, Settings
from pipelines.runtime.consumer_loop import Runner
from pipelines.runtime.stage import Output, Stage
from redpanda.client import connection_config, consumer_config
from schemas.events import Event, StreamEnded, parse_event
from tests.support.kafka_backend import plain_producer_config
from tests.support.waiting import wait_for

DEADLINE_S = 20


class Lab:
    """One stage on its own topics. `handled` are the calls that its handler received, in order."""

    def __init__(self, kafka: KafkaSettings, partitions: int) -> None:
        self.name = f"lab-{uuid.uuid4().hex[:8]}"
        self.kafka = kafka
        self.source, self.retry, self.results = (f"{self.name}.{end}" for end in ("in", "retry", "out"))
        admin = AdminClient(connection_config(kafka))
        for created in admin.create_topics(
            [NewTopic(name, partitions, 1) for name in (self.source, self.retry, self.results)]
        ).values():
            created.result(10)
        self._producer = Producer(plain_producer_config(kafka))
        self.handled: list[str] = []
        self.happened = asyncio.Event()
        self.behave: Callable[[str, int], float | BaseException | None] = lambda call_id, attempt: None

    async def _handle(self, event: StreamEnded) -> Sequence[Output]:
        self.handled.append(event.call_id)
        self.happened.set()
        outcome = self.behave(event.call_id, self.handled.count(event.call_id))
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            await asyncio.sleep(outcome)
        return [Output(self.results, event.model_copy(update={"event_id": f"out-{event.event_id}"}))]

    @contextlib.asynccontextmanager
    async def running(
        self,
        retry: RetrySettings,
        *,
        concurrency: int = 2,
        timeout_s: float = 5,
        clock: Clock | None = None,
        stall_s: float = 60,
    ) -> AsyncIterator[Runner[StreamEnded]]:
        """Runs the stage until the block ends, then stops it like SIGTERM does."""
        stage = Stage(self.name, self.source, self.retry, StreamEnded, self._handle, concurrency, timeout_s)
        stop = asyncio.Event()
        worker = Runner(Settings(kafka=self.kafka, retry=retry), stage, clock=clock, stall_s=stall_s)
        task = asyncio.create_task(worker.run(stop))
        try:
            yield worker
        finally:
            stop.set()
            await task

    def send(self, *calls: str) -> None:
        """Puts one input event per call on the source topic."""
        for call in calls:
            event = StreamEnded(
                event_id=f"in-{call}", call_id=call, tenant="t", occurred_at_ms=1, stream_id="S", reason="carrier-stop"
            )
            self.send_raw(event.model_dump_json(), call)

    def send_raw(self, value: str, key: str) -> None:
        """Puts any bytes on the source topic."""
        self._producer.produce(self.source, key=key, value=value)
        assert self._producer.flush(10) == 0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the condition is true. The handler wakes it up."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.happened.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.happened.wait(), 0.1)

    async def events(self, topic: str, count: int, key_prefix: str = "") -> list[Event]:
        """Returns the first `count` events of a topic whose call id begins with the prefix."""
        return await asyncio.to_thread(self._read, topic, count, key_prefix)

    def read_now(self, topic: str, key_prefix: str) -> list[bytes]:
        """Returns the records that are now on a topic, with keys that begin with the prefix."""
        consumer = Consumer(consumer_config(self.kafka, f"reader-{uuid.uuid4().hex}"))
        found = []
        places = [
            TopicPartition(topic, number, 0) for number in consumer.list_topics(topic, 5).topics[topic].partitions
        ]
        # All ends first: later each question would wait for the fetch that is under way.
        ends = [consumer.get_watermark_offsets(place, 5)[1] for place in places]
        for place, end in zip(places, ends, strict=True):
            consumer.assign([place])
            at = 0
            while at < end:
                message = consumer.poll(5)
                assert message is not None
                at = (message.offset() or 0) + 1
                if (message.key() or b"").startswith(key_prefix.encode()):
                    found.append(message.value() or b"")
        consumer.close()
        return found

    def _read(self, topic: str, count: int, key_prefix: str) -> list[Event]:
        consumer = Consumer(consumer_config(self.kafka, f"reader-{uuid.uuid4().hex}"))
        partitions = consumer.list_topics(topic, 5).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[Event] = []
        idle = 0.0
        while len(found) < count and idle < DEADLINE_S:
            message = consumer.poll(0.2)
            if message is None or message.error() is not None:
                idle += 0.2
                continue
            if (message.key() or b"").startswith(key_prefix.encode()):
                found.append(parse_event(message.value() or b""))
        consumer.close()
        assert len(found) == count, f"{len(found)} of {count} events on {topic}"
        return found

    def committed(self) -> int:
        """Returns the number of records of the source topic that the group has committed."""
        consumer = Consumer(consumer_config(self.kafka, self.name))
        partitions = consumer.list_topics(self.source, 5).topics[self.source].partitions
        offsets = consumer.committed([TopicPartition(self.source, number) for number in partitions], 10)
        consumer.close()
        return sum(max(0, place.offset) for place in offsets)

    async def until_committed(self, records: int) -> None:
        """Waits until that many are committed. An offset is committed shortly after its result is on the log."""
        await asyncio.to_thread(wait_for, lambda: self.committed() == records or None, f"{records} are committed")


FAST = RetrySettings(delays_s=(0.05, 0.05), outage_pause_s=0.2)
