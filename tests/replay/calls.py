"""Synthetic calls on the log: most end normally, some lose their gateway, some continue after their end."""

import random
from collections.abc import Iterator

from confluent_kafka import Producer

from core.settings import KafkaSettings
from redpanda.client import producer_config
from schemas.media import EosReason, MediaRecord, RecordType, to_headers
from schemas.topics import Topic

TENANT = "acme"
STARTED_MS = 1_790_000_000_000
CALL_MS = 3_000
_RUN_MS = 500


def call_id(number: int) -> str:
    """Returns the id of the call with that number."""
    return f"CA{number:06}"


def is_left(number: int) -> bool:
    """True if its gateway disappears, so that the call is closed by the clock."""
    return number % 10 == 3


def comes_back(number: int) -> bool:
    """True if a stream follows after the close, so that the call has two parts."""
    return number % 10 == 7


def records(number: int, stream: str = "MZ1", from_ms: int = 0) -> Iterator[MediaRecord]:
    """Returns a stream of the call with a hole and a repeated record. from_ms: time since the start of the call."""
    noise = random.Random(f"{number}/{stream}")
    start_ms = STARTED_MS + number * 1_000 + from_ms

    def record(kind: RecordType, at_ms: int, **fields: object) -> MediaRecord:
        return MediaRecord(kind, call_id(number), TENANT, "twilio", stream, start_ms + at_ms, **fields)  # type: ignore[arg-type]

    yield record(RecordType.START, 0, payload=b'{"tracks": ["inbound", "outbound"]}')
    for ts_ms in range(0, CALL_MS, _RUN_MS):
        for track in ("inbound", "outbound"):
            if noise.random() < 0.1:
                continue
            media = record(
                RecordType.MEDIA,
                ts_ms,
                track=track,
                ts_ms=ts_ms,
                frames=_RUN_MS // 20,
                payload=noise.randbytes(_RUN_MS * 8),
            )
            yield media
            if noise.random() < 0.05:
                yield media
    if not is_left(number):
        yield record(RecordType.EOS, CALL_MS, detail=EosReason.CARRIER_STOP)


def produce(kafka: KafkaSettings, streams: list[Iterator[MediaRecord]]) -> None:
    """Puts the streams on the log, interleaved like live calls, eight at a time."""
    producer = Producer(producer_config(kafka))
    for start in range(0, len(streams), 8):
        group = streams[start : start + 8]
        while group:
            for stream in list(group):
                record = next(stream, None)
                if record is None:
                    group.remove(stream)
                    continue
                producer.produce(Topic.CALL_MEDIA, key=record.call_id, value=record.payload, headers=to_headers(record))
                producer.poll(0)
    producer.flush(60)
