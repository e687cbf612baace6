"""Calls that continue while something breaks, and the check that all their records are on the log."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from core.settings import KafkaSettings
from gateway.producer.log_producer import LogProducer
from redpanda.client import connection_config
from schemas.events import StreamEnded
from schemas.ids import uuid_of
from schemas.media import MediaRecord, RecordType, from_headers
from schemas.topics import Topic
from tests.support.ids import new_call

_RUN_MS = 500
_READ_S = 60.0


class OnLog(NamedTuple):
    """Place of a record in its call, and its contents."""

    kind: RecordType
    number: int
    payload: bytes


class Calls:
    """Calls at the same time, each with its own contents. `expected` are the written records, in order."""

    def __init__(self, writer: LogProducer, count: int) -> None:
        self.expected: dict[str, list[OnLog]] = {new_call(): [] for _ in range(count)}
        self._writer = writer
        for call in self.expected:
            self._put(call, RecordType.START)

    async def talk(self, over: asyncio.Event, every_s: float = 0.02) -> None:
        """Writes a chunk of each call at regular intervals until the end, then ends all calls."""
        while not over.is_set():
            for call in self.expected:
                self._put(call, RecordType.MEDIA)
            await asyncio.sleep(every_s)
        for call in self.expected:
            self._put(call, RecordType.EOS)
            self._writer.put(
                StreamEnded(
                    event_id=uuid_of("stream.ended", call),
                    call_id=call,
                    tenant="acme",
                    occurred_at_ms=0,
                    stream_id="MZ1",
                    reason="carrier-stop",
                )
            )

    def _put(self, call: str, kind: RecordType) -> None:
        number = len(self.expected[call])
        is_media = kind is RecordType.MEDIA
        record = MediaRecord(
            type=kind,
            call_id=call,
            tenant="acme",
            carrier="twilio",
            stream_id="MZ1",
            at_ms=time.time_ns() // 1_000_000,
            track="inbound" if is_media else "",
            seq=number,
            ts_ms=number * _RUN_MS,
            frames=25 if is_media else 0,
            payload=f"{call} {number} ".encode() * 8 if is_media else b"",
        )
        self._writer.put(record)
        self.expected[call].append(OnLog(kind, number, record.payload))


def media_on_log(kafka: KafkaSettings, calls: Sequence[str]) -> dict[str, list[OnLog]]:
    """Returns the records of the calls on call.media, with repetitions, in the order of the log."""
    found: dict[str, list[OnLog]] = {call: [] for call in calls}
    for key, headers, value in _all_of(kafka, Topic.CALL_MEDIA):
        if key in found:
            record = from_headers(key, headers, value)
            found[key].append(OnLog(record.type, record.seq, record.payload))
    return found


def events_on_log(kafka: KafkaSettings, calls: Sequence[str]) -> dict[str, int]:
    """Returns the number of events of each call on call.events."""
    found: dict[str, int] = defaultdict(int)
    for key, _, _ in _all_of(kafka, Topic.CALL_EVENTS):
        if key in calls:
            found[key] += 1
    return dict(found)


def _all_of(kafka: KafkaSettings, topic: Topic) -> list[tuple[str, list[tuple[str, bytes]], bytes]]:
    """Returns all records that are on the topic now."""
    reader = Consumer(connection_config(kafka) | {"group.id": "tests-chaos", "enable.auto.commit": False})
    try:
        partitions = reader.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {one: reader.get_watermark_offsets(TopicPartition(topic, one), timeout=10) for one in partitions}
        reader.assign([TopicPartition(topic, one, low) for one, (low, _) in ends.items()])
        missing = {one for one, (low, high) in ends.items() if low < high}
        records = []
        deadline = time.monotonic() + _READ_S
        while missing:
            assert time.monotonic() < deadline, f"the log does not give all of {topic}"
            for message in reader.consume(1000, 0.2):
                if message.error() is None:
                    key = (message.key() or b"").decode(errors="replace")
                    records.append((key, message.headers() or [], message.value() or b""))
                    if message.offset() + 1 >= ends[message.partition()][1]:
                        missing.discard(message.partition())
        return records
    finally:
        reader.close()
