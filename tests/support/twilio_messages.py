"""Helpers of the gateway's tests: Twilio's messages, a sink that stores items, and a reader of the log."""

import base64
import json
import time
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, TopicPartition

from core.settings import KafkaSettings
from gateway.producer.send_buffer import Item
from redpanda.client import connection_config
from schemas.events import AnyEvent, Event, parse_event
from schemas.media import MediaRecord, RecordType, from_headers
from schemas.topics import Topic

TOKEN = "not-a-real-token"
PUBLIC_URL = "https://calls.example.com"


def start(
    call_id: str = "CA1",
    stream_id: str = "MZ1",
    *,
    encoding: str = "audio/x-mulaw",
    rate: int = 8000,
    channels: int = 1,
    custom: dict[str, object] | None = None,
) -> bytes:
    """Returns Twilio's start message."""
    return json.dumps(
        {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": stream_id,
            "start": {
                "accountSid": "AC1",
                "streamSid": stream_id,
                "callSid": call_id,
                "tracks": ["inbound", "outbound"],
                "customParameters": custom or {},
                "mediaFormat": {"encoding": encoding, "sampleRate": rate, "channels": channels},
            },
        }
    ).encode()


def media(
    number: int, *, track: str = "inbound", stream_id: str = "MZ1", ts_ms: int | None = None, octet: int | None = None
) -> bytes:
    """Returns the message of frame `number` (20 ms, from 0) of a stream. All its bytes are equal."""
    payload = bytes([number % 251 if octet is None else octet]) * 160
    return json.dumps(
        {
            "event": "media",
            "sequenceNumber": str(number + 2),
            "streamSid": stream_id,
            "media": {
                "track": track,
                "chunk": str(number + 1),
                "timestamp": str(number * 20 if ts_ms is None else ts_ms),
                "payload": base64.b64encode(payload).decode(),
            },
        }
    ).encode()


def dtmf(digit: str, *, number: int = 5, stream_id: str = "MZ1") -> bytes:
    """Returns the message of a keypad digit."""
    body = {"track": "inbound_track", "digit": digit}
    return json.dumps({"event": "dtmf", "sequenceNumber": str(number), "streamSid": stream_id, "dtmf": body}).encode()


def stop(stream_id: str = "MZ1") -> bytes:
    """Returns Twilio's stop message."""
    return json.dumps({"event": "stop", "streamSid": stream_id, "stop": {"callSid": "CA1"}}).encode()


class MemorySink:
    """Sink that keeps everything in order."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def put(self, item: Item) -> None:
        self.items.append(item)

    @property
    def records(self) -> list[MediaRecord]:
        return [item for item in self.items if isinstance(item, MediaRecord)]

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]


def media_of(records: Sequence[MediaRecord], track: str = "inbound") -> list[MediaRecord]:
    """Returns the media records of a track."""
    return [record for record in records if record.type is RecordType.MEDIA and record.track == track]


def records_on_log(
    kafka: KafkaSettings,
    call_id: str,
    until: Callable[[list[MediaRecord]], bool] = lambda records: bool(records) and records[-1].type is RecordType.EOS,
    timeout_s: float = 20.0,
) -> list[MediaRecord]:
    """Returns the records of the call on call.media, in order, when `until` is true for them. Fails after a timeout."""
    records: list[MediaRecord] = []
    consumer = _reader(kafka, Topic.CALL_MEDIA)
    try:
        deadline = time.monotonic() + timeout_s
        while not until(records):
            assert time.monotonic() < deadline, f"the log has only {[record.type.value for record in records]}"
            for message in consumer.consume(500, 0.1):
                if message.error() is None and message.key() == call_id.encode():
                    records.append(from_headers(message.key(), message.headers(), message.value()))
        return records
    finally:
        consumer.close()


def events_on_log(kafka: KafkaSettings, call_id: str, count: int, timeout_s: float = 20.0) -> list[AnyEvent]:
    """Returns the events of the call on call.events, when there are `count`."""
    events: list[AnyEvent] = []
    consumer = _reader(kafka, Topic.CALL_EVENTS)
    try:
        deadline = time.monotonic() + timeout_s
        while len(events) < count:
            assert time.monotonic() < deadline, f"the log has only {events}"
            for message in consumer.consume(500, 0.1):
                if message.error() is None and message.key() == call_id.encode():
                    events.append(parse_event(message.value()))
        return events
    finally:
        consumer.close()


def _reader(kafka: KafkaSettings, topic: Topic) -> Consumer:
    # Assigned by hand: a group of its own per look would stay on the embedded log for ever.
    consumer = Consumer(
        connection_config(kafka) | {"group.id": "tests-gateway", "enable.auto.commit": False, "fetch.wait.max.ms": 20}
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    return consumer
