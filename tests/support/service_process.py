"""Runs a service in a process of its own, as `audiotext run` does, and looks at the log it reads."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import consumer_config
from tests.conftest import kafka_settings
from tests.support.running_server import RunningServer

_ROOT = Path(__file__).parents[2]
_PROGRAM = """
import importlib, logging, sys
from core import settings
logging.basicConfig(level=logging.INFO)
importlib.import_module(sys.argv[1]).run(settings.load())
"""


def on_its_own(log: RunningServer, objects: RunningServer, models: Path) -> tuple[KafkaSettings, dict[str, str]]:
    """How to reach a log of the test's own, its topics made, and the environment of a service on it. models: where the
    engines' models lie. Static membership, as the supervisor gives: the embedded log waits for ever for a member that
    was killed."""
    kafka = kafka_settings(log).model_copy(update={"instance_id": "0"})
    topics.apply(kafka, embedded=True)
    env = {
        **log.addresses,
        **objects.addresses,
        "AUDIOTEXT_KAFKA__INSTANCE_ID": "0",
        "AUDIOTEXT_DATA_DIR": str(models.parent),
    }
    return kafka, env


class Service:
    """A service's process. output: what it wrote so far."""

    def __init__(self, module: str, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, module],
                env=os.environ | {"PYTHONPATH": str(_ROOT)} | dict(env),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; the exit code and how long it took (s)."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(20), time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._process.kill()
        self._process.wait()


@contextmanager
def running(module: str, env: Mapping[str, str], log: Path) -> Iterator[Service]:
    """The service, killed at the end if it still runs."""
    service = Service(module, env, log)
    try:
        yield service
    finally:
        service.kill()


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 45) -> float:
    """Waits until the condition holds, and returns for how long (s). Fails after `timeout_s`."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - started


@contextmanager
def offsets(kafka: KafkaSettings, group: str, topic: str) -> Iterator[Callable[[], int]]:
    """A function that tells how many records of the topic the group has done with, over all partitions."""
    consumer = Consumer(consumer_config(kafka.model_copy(update={"instance_id": None}), group))
    try:
        partitions = [
            TopicPartition(topic, n) for n in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        yield lambda: sum(max(0, at.offset) for at in consumer.committed(partitions, timeout=10))
    finally:
        consumer.close()


def records(kafka: KafkaSettings, topic: str, count: int, timeout_s: float = 45) -> list[bytes]:
    """Values of the first `count` records of the topic. Fails if they are not there in time."""
    consumer = Consumer(consumer_config(kafka, f"reader-of-{topic}"))
    found: list[bytes] = []
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        deadline = time.monotonic() + timeout_s
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message.value())
    finally:
        consumer.close()
    assert len(found) == count
    return found
