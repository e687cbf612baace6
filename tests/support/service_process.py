"""Service in its own process, like `audiotext run`, and readers of its log."""

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


def own_log_and_environment(
    log: RunningServer, objects: RunningServer, models: Path
) -> tuple[KafkaSettings, dict[str, str]]:
    """Returns the settings of a test's own log with all topics, and the environment of a service that uses it.

    models: folder of the models of the engines. The service is a static member of its group, like under the supervisor,
    because the embedded log waits forever for a killed member.
    """
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
    """Process of a service. output: its output so far."""

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
        """Sends SIGTERM. Returns the exit code and the seconds it took."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(20), time.monotonic() - started

    def kill(self) -> None:
        """Sends SIGKILL if it still runs."""
        self._process.kill()
        self._process.wait()


@contextmanager
def running(module: str, env: Mapping[str, str], log: Path) -> Iterator[Service]:
    """Runs the service, and kills it at the end if it still runs."""
    service = Service(module, env, log)
    try:
        yield service
    finally:
        service.kill()


@contextmanager
def offsets(kafka: KafkaSettings, group: str, topic: str) -> Iterator[Callable[[], int]]:
    """Yields a function that returns how many records of the topic the group has committed, over all partitions."""
    consumer = Consumer(consumer_config(kafka.model_copy(update={"instance_id": None}), group))
    try:
        partitions = [
            TopicPartition(topic, n) for n in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        yield lambda: sum(max(0, at.offset) for at in consumer.committed(partitions, timeout=10))
    finally:
        consumer.close()


def records(kafka: KafkaSettings, topic: str, count: int, timeout_s: float = 45) -> list[bytes]:
    """Returns the values of the first `count` records of the topic. Fails if there are fewer in time."""
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
