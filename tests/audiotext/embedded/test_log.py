"""Tests of the embedded log with its proxy: idle cost, latency, and durability over a restart."""

import json
import os
import socket
import struct
import threading
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer
from pydantic import SecretStr

from audiotext.embedded.kafka_longpoll_proxy import is_empty, max_wait_s
from audiotext.embedded.private_network import PrivateNetwork
from audiotext.embedded.server import port_is_open
from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import consumer_config, is_reachable, producer_config
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


def test_idle_consumer_uses_little_cpu(start_server: StartServer) -> None:
    """Lets a consumer wait for two seconds and measures the processor time of the log.

    Without the proxy an idle consumer uses more than one processor.
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


def test_waiting_consumer_receives_a_record_at_once(kafka: KafkaSettings) -> None:
    """Measures the time from producing a record to its arrival at a waiting consumer.

    A failure means that the proxy delays responses although there are records.
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


def test_acknowledged_records_survive_a_restart(start_server: StartServer) -> None:
    """Ends the log by SIGTERM and starts it again: all acknowledged records must be there, at the same address."""
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


def test_wait_time_of_a_fetch_is_read() -> None:
    """Reads the wait time of a fetch request, and of an unreadable one, which must be 0."""
    assert max_wait_s(fetch_request(500)) == 0.5
    assert max_wait_s(b"") == 0.0


def test_only_empty_responses_are_delayed() -> None:
    """Checks responses with records, with errors, and unreadable ones: none may be delayed."""
    assert is_empty(fetch_response(None))
    assert is_empty(fetch_response(b""))
    assert not is_empty(fetch_response(b"records"))
    assert not is_empty(fetch_response(None, error=1))
    assert not is_empty(b"\x00")


def test_clients_without_the_password_are_refused(kafka: KafkaSettings) -> None:
    """Connects without credentials and with a wrong password, and sends requests to the port without authentication.

    Neither may get a response. A failure means that every user of the machine can read and write the log.
    """
    servers = kafka.bootstrap_servers or ""
    strangers = [
        KafkaSettings(bootstrap_servers=servers),
        kafka.model_copy(update={"sasl_password": SecretStr("wrong")}),
        kafka.model_copy(update={"sasl_username": "nobody"}),
    ]
    for stranger in strangers:
        assert not is_reachable(stranger, timeout_s=1.5)
    assert is_reachable(kafka)
    metadata = struct.pack(">hhihi", 3, 1, 7, -1, -1)
    too_long = struct.pack(">i", 1 << 30)
    for message in (struct.pack(">i", len(metadata)) + metadata, too_long):
        with socket.create_connection(("127.0.0.1", int(servers.rpartition(":")[2])), timeout=5) as connection:
            connection.sendall(message)
            assert connection.recv(100) == b""


def test_the_log_has_no_other_open_port(start_server: StartServer) -> None:
    """Connects to the port of noida-db itself, which has no authentication: it is in a private network."""
    if PrivateNetwork.create() is None:
        pytest.skip("this system does not allow a private network")
    server = start_server("log")
    ports = json.loads((server.data_dir / "stack.json").read_text())["ports"]
    assert port_is_open(ports["log"])
    assert not port_is_open(ports["log.inside"])
