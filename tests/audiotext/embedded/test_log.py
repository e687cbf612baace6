"""The embedded log behind its proxy: idle consumers cost nothing, waiting ones are woken at once, SIGTERM keeps all."""

import os
import struct
import threading
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer

from audiotext.embedded.kafka_longpoll_proxy import is_empty, longest_wait_s
from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import consumer_config, producer_config
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings

TOPIC = Topic.CALL_EVENTS.value


def consumer(kafka: KafkaSettings) -> Consumer:
    subscriber = Consumer(consumer_config(kafka, f"g-{uuid.uuid4().hex}"))
    subscriber.subscribe([TOPIC])
    return subscriber


def read(subscriber: Consumer, count: int, timeout_s: float = 15.0) -> list[bytes]:
    values: list[bytes] = []
    deadline = time.monotonic() + timeout_s
    while len(values) < count and time.monotonic() < deadline:
        message: Message | None = subscriber.poll(0.2)
        if message is not None and message.error() is None:
            values.append(message.value() or b"")
    return values


def processor_s(pid: int) -> float:
    """Seconds of processor time the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_consumer_costs_nothing(start_server: StartServer) -> None:
    """What does this test do? Lets a consumer wait for two seconds and weighs what the log used meanwhile.

    noida-db answers an empty fetch at once, and a consumer asks again at once: without the proxy's waiting, one
    idle consumer keeps the log busy at 40 % of a processor, and six leave none for speech recognition.
    """
    server = start_server("log")
    kafka = kafka_settings(server)
    topics.apply(kafka, embedded=True)
    subscriber = consumer(kafka)
    deadline = time.monotonic() + 10
    while not subscriber.assignment() and time.monotonic() < deadline:
        subscriber.poll(0.1)
    read(subscriber, 1, timeout_s=0.5)  # its first fetches
    before = sum(processor_s(pid) for pid in server.pids())
    read(subscriber, 1, timeout_s=2.0)
    used = sum(processor_s(pid) for pid in server.pids()) - before
    subscriber.close()
    assert used < 0.2


def test_a_waiting_consumer_is_woken_by_a_record(kafka: KafkaSettings) -> None:
    """What does this test do? Measures from produce to arrival at a consumer that waits.

    The fetch waits up to 500 ms; if the proxy did not wake it, every stage of a call would take that much longer.
    """
    subscriber = consumer(kafka)
    marker = uuid.uuid4().hex.encode()
    producer = Producer(producer_config(kafka))
    producer.produce(TOPIC, marker, key="first")
    producer.flush()
    values: list[bytes] = []
    while marker not in values:
        values += read(subscriber, 1)
    delays = []
    for number in range(5):
        value = b"%s-%d" % (marker, number)
        time.sleep(0.2)  # let it wait again
        sent = time.monotonic()
        sender = threading.Thread(target=lambda value=value: (producer.produce(TOPIC, value), producer.flush()))
        sender.start()
        while read(subscriber, 1) != [value]:
            pass
        delays.append(time.monotonic() - sent)
        sender.join()
    subscriber.close()
    assert sorted(delays)[2] < 0.15, delays


def test_what_was_acknowledged_survives_a_restart(start_server: StartServer) -> None:
    """SIGTERM saves the log: everything that was acknowledged is read again after a restart, at the same address."""
    server = start_server("log")
    kafka = kafka_settings(server)
    topics.apply(kafka, embedded=True)
    producer = Producer(producer_config(kafka))
    sent = [b"%d" % number for number in range(500)]
    for value in sent:
        producer.produce(TOPIC, value, key="call")
    assert producer.flush(10) == 0
    server.stop()
    server.start()
    assert kafka_settings(server) == kafka
    subscriber = consumer(kafka)
    assert sorted(read(subscriber, len(sent))) == sorted(sent)
    subscriber.close()


def fetch_request(wait_ms: int) -> bytes:
    return struct.pack(">hhih", 1, 12, 7, 2) + b"id" + b"\x00" + struct.pack(">ii", -1, wait_ms) + b"rest"


def fetch_response(records: bytes | None, error: int = 0) -> bytes:
    """A response with one topic and one partition, as version 12 has it."""
    length = b"\x00" if records is None else bytes([len(records) + 1])
    partition = struct.pack(">ihqqq", 0, error, 5, 5, 0) + b"\x01" + struct.pack(">i", -1) + length
    partition += (records or b"") + b"\x00"
    topic = b"\x06" + b"topic" + b"\x02" + partition + b"\x00"
    return struct.pack(">i", 7) + b"\x00" + struct.pack(">ihi", 0, 0, 0) + b"\x02" + topic + b"\x00"


def test_the_consumers_longest_wait_is_read() -> None:
    """The proxy waits as long as the consumer allows; for a request it cannot read it does not wait."""
    assert longest_wait_s(fetch_request(500)) == 0.5
    assert longest_wait_s(b"") == 0.0


def test_only_an_empty_answer_is_held_back() -> None:
    """Records and errors must go through at once; so must anything that is not understood."""
    assert is_empty(fetch_response(None))
    assert is_empty(fetch_response(b""))
    assert not is_empty(fetch_response(b"records"))
    assert not is_empty(fetch_response(None, error=1))
    assert not is_empty(b"\x00")
