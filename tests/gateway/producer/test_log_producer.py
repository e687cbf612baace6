"""Tests of the log producer with real brokers: an available, a slow, a dead and a restarted log."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from confluent_kafka import KafkaError

from core.settings import KafkaSettings
from gateway.metrics import Metrics
from gateway.producer.log_producer import LogProducer
from gateway.producer.send_buffer import OVERHEAD_BYTES
from redpanda import topics
from redpanda.client import LogUnavailableError
from schemas.events import StreamEnded, StreamStarted
from schemas.ids import uuid_of
from schemas.media import Codec, GapReason, MediaRecord, RecordType
from schemas.topics import Topic
from tests.conftest import kafka_settings
from tests.support.ids import new_call
from tests.support.running_server import RunningServer
from tests.support.twilio_messages import events_on_log, media_of, records_on_log

RUN_BYTES = 4000 + OVERHEAD_BYTES
MakeWriter = Callable[..., LogProducer]


@pytest.fixture
async def make_writer() -> AsyncIterator[MakeWriter]:
    """Creates and starts producers, and closes them."""
    writers: list[LogProducer] = []

    def make(kafka: KafkaSettings, limit_bytes: int = 64 << 20, window_bytes: int = 8 << 20) -> LogProducer:
        writer = LogProducer(kafka, Metrics(), limit_bytes=limit_bytes, window_bytes=window_bytes)
        writer.start()
        writers.append(writer)
        return writer

    yield make
    for writer in writers:
        writer.close()


def record(call: str, kind: RecordType, number: int = 0) -> MediaRecord:
    """Returns a record; media is half a second that begins at `number` half seconds."""
    return MediaRecord(
        type=kind,
        call_id=call,
        tenant="acme",
        carrier="twilio",
        stream_id="MZ1",
        at_ms=time.time_ns() // 1_000_000,
        track="inbound" if kind is RecordType.MEDIA else "",
        seq=number,
        ts_ms=number * 500,
        frames=25 if kind is RecordType.MEDIA else 0,
        payload=bytes([number % 256]) * 4000 if kind is RecordType.MEDIA else b"",
    )


def ended(call: str) -> StreamEnded:
    """Returns the event at a stream's end."""
    return StreamEnded(
        event_id=uuid_of("stream.ended", call),
        call_id=call,
        tenant="acme",
        occurred_at_ms=0,
        stream_id="MZ1",
        reason="carrier-stop",
    )


def started(call: str) -> StreamStarted:
    """Returns the event at a stream's start."""
    return StreamStarted(
        event_id=uuid_of("stream.started", call),
        call_id=call,
        tenant="acme",
        occurred_at_ms=0,
        carrier="twilio",
        stream_id="MZ1",
        tracks=["inbound"],
        codec=Codec.PCMU,
        rate_hz=8000,
    )


def put_call(writer: LogProducer, call: str, runs: int) -> None:
    """Puts all records of a call."""
    writer.put(record(call, RecordType.START))
    for number in range(runs):
        writer.put(record(call, RecordType.MEDIA, number))
    writer.put(record(call, RecordType.EOS))
    writer.put(ended(call))


async def test_everything_arrives_in_order(make_writer: MakeWriter, any_log: KafkaSettings) -> None:
    """Puts 500 records through a window of ten: all must be on the log in order, and the buffer must be empty."""
    writer = make_writer(any_log, window_bytes=10 * RUN_BYTES)
    call = new_call()
    put_call(writer, call, 500)
    assert await writer.drain(20)
    assert writer.held_bytes == 0
    records = await asyncio.to_thread(records_on_log, any_log, call)
    assert [one.seq for one in media_of(records)] == list(range(500))
    assert (await asyncio.to_thread(events_on_log, any_log, call, 1))[0].event_id == uuid_of("stream.ended", call)


async def test_a_dead_log_costs_the_oldest_audio_only(make_writer: MakeWriter, own_log: RunningServer) -> None:
    """Stops the log, puts ten times the buffer's size, and starts the log again.

    Memory must stay within the limit, and no put may take long. The newest audio, start and eos must be on the log; one
    gap must replace the oldest audio, and the event must contain its amount.
    """
    kafka = kafka_settings(own_log)
    topics.apply(kafka, embedded=True)
    limit = 100 * RUN_BYTES
    writer = make_writer(kafka, limit_bytes=limit, window_bytes=20 * RUN_BYTES)
    call = new_call()
    writer.put(record(call, RecordType.START))
    assert await writer.drain(10)
    own_log.stop()
    took = []
    for number in range(1000):
        before = time.perf_counter()
        writer.put(record(call, RecordType.MEDIA, number))
        took.append(time.perf_counter() - before)
        assert writer.held_bytes <= limit
    writer.put(record(call, RecordType.EOS))
    writer.put(ended(call))
    assert sorted(took)[-10] < 0.05  # but for a few moments in which the machine did something else
    assert not await writer.drain(0.05)
    with pytest.raises(LogUnavailableError):
        await writer.probe(0.5)
    own_log.start()
    assert await writer.drain(20)
    records = await asyncio.to_thread(records_on_log, kafka, call)
    kept = [one.seq for one in media_of(records)]
    # The window was with librdkafka already, the rest of the buffer holds the newest.
    assert kept[:19] == list(range(19))
    assert kept[-70:] == list(range(930, 1000))
    gaps = [one for one in records if one.type is RecordType.GAP]
    assert len(gaps) == 1
    assert gaps[0].detail == GapReason.BUFFER_FULL
    missing_ms = 500 * (1000 - len(kept))
    assert gaps[0].duration_ms == missing_ms
    assert gaps[0].ts_ms == 500 * next(number for number in range(1000) if number not in set(kept))
    assert [one.type for one in records].index(RecordType.GAP) == 1 + kept.index(gaps[0].ts_ms // 500 - 1) + 1
    assert records[-1].type is RecordType.EOS
    event = (await asyncio.to_thread(events_on_log, kafka, call, 1))[0]
    assert isinstance(event, StreamEnded)
    assert event.dropped_ms == missing_ms


async def test_a_broken_producer_is_replaced(make_writer: MakeWriter, any_log: KafkaSettings) -> None:
    """Reports a fatal error for a record in a call, as librdkafka does when the log has forgotten the producer.

    All records must be on the log in order; some may be there twice. A failure means that audio is lost.
    """
    writer = make_writer(any_log)
    call = new_call()
    writer.put(record(call, RecordType.START))
    assert await writer.drain(20)  # it knows where the call goes: what is put now is sent at once
    put_call(writer, call, 50)
    for number in list(writer._in_flight)[10:]:
        writer._on_delivery(writer._generation, number, KafkaError(KafkaError._FATAL, "fenced"), None)
    assert await writer.drain(20)
    records = await asyncio.to_thread(
        records_on_log, any_log, call, lambda got: len({one.seq for one in media_of(got)}) == 50
    )
    first_seen = list(dict.fromkeys(one.seq for one in media_of(records)))
    assert first_seen == list(range(50))
    assert b"producer_restarts_total 1.0" in writer._metrics.render()


@pytest.mark.parametrize("lost", [False, True])
async def test_events_wait_for_the_acknowledged_start(
    make_writer: MakeWriter, any_log: KafkaSettings, lost: bool
) -> None:
    """Puts a stream's start and its events, also with a first producer that fails.

    The events must not be sent before the start is acknowledged, and must then arrive in order. If the gateway were
    killed in between, a call without records would be shown as live forever.
    """
    writer = make_writer(any_log)
    warm, call = new_call(), new_call()
    writer.put(record(warm, RecordType.START))
    assert await writer.drain(20)  # it knows the log: what is put now is sent at once
    for item in (record(call, RecordType.START), started(call), record(call, RecordType.EOS), ended(call)):
        writer.put(item)
    assert [type(item) for item in writer._in_flight.values()] == [MediaRecord, MediaRecord]
    if lost:
        first = min(writer._in_flight)
        writer._on_delivery(writer._generation, first, KafkaError(KafkaError._FATAL, "fenced"), None)
    assert await writer.drain(20)
    events = await asyncio.to_thread(events_on_log, any_log, call, 2)
    assert [event.type for event in events] == ["stream.started", "stream.ended"]
    assert writer.held_bytes == 0


async def test_too_large_record_is_replaced_by_a_gap(make_writer: MakeWriter, any_log: KafkaSettings) -> None:
    """Puts a record that is too large for the log between two valid ones.

    It must be replaced by a gap, and the others must arrive. Sending it again and again would block all calls.
    """
    writer = make_writer(any_log)
    call = new_call()
    giant = record(call, RecordType.MEDIA, 1)
    giant = MediaRecord(**{name: getattr(giant, name) for name in giant.__slots__} | {"payload": bytes(2_000_000)})
    for item in (
        record(call, RecordType.START),
        giant,
        record(call, RecordType.MEDIA, 2),
        record(call, RecordType.EOS),
    ):
        writer.put(item)
    assert await writer.drain(10)
    records = await asyncio.to_thread(records_on_log, any_log, call)
    assert [one.type.value for one in records] == ["start", "gap", "media", "eos"]
    assert records[1].duration_ms == 250_000


async def test_probe_returns_the_topics(make_writer: MakeWriter, any_log: KafkaSettings) -> None:
    """Requests the topics of a real log: call.media and call.events must be among them."""
    found = await make_writer(any_log).probe(5)
    assert {Topic.CALL_MEDIA, Topic.CALL_EVENTS} <= found


def test_no_log_configured_is_said_at_once() -> None:
    """Makes a writer without an address: an error that names the setting."""
    with pytest.raises(LogUnavailableError, match="AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"):
        LogProducer(KafkaSettings(), Metrics(), limit_bytes=1 << 20)
