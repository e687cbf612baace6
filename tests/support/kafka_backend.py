"""The honest lane: Apache Kafka, one node and a cluster of three, wherever Java and Maven are at hand.

The embedded log cannot show what a broker's death does, nor that a dead consumer is ever replaced, so what is promised
about either is tested here. A pytest plugin, loaded by tests/conftest.py.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from audiotext.embedded import kafka as embedded_kafka
from audiotext.embedded.kafka_jars import VERSION
from core import process
from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import Config, producer_config
from tests.support.running_server import RunningServer

BOTH = ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)]
"""Parameters of a fixture that gives either log."""

_START_S = 90  # three JVMs on two busy processors


def plain_producer_config(kafka: KafkaSettings) -> Config:
    """A producer of a test's own input: as AudioText's, but not idempotent. One that is keeps its first record back for
    half a second, until librdkafka looks again whether it has its id."""
    return producer_config(kafka) | {"enable.idempotence": False}


class KafkaNodes(RunningServer):
    """One node or three; each can be killed, paused and started again by its number, from 0."""

    def __init__(self, data_dir: Path, nodes: int = 1) -> None:
        super().__init__(data_dir, lambda state: embedded_kafka.servers(state, nodes), start_timeout_s=_START_S)

    @property
    def settings(self) -> KafkaSettings:
        """How to reach it; topics get a copy on every node."""
        bootstrap = self.addresses["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"]
        return KafkaSettings(bootstrap_servers=bootstrap, replication_factor=len(self._servers))

    def wait_for_topics(self) -> None:
        """Returns once every node knows every topic: a cluster's other nodes learn of a new one a moment later."""
        for address in self.addresses["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"].split(","):
            node = AdminClient({"bootstrap.servers": address})
            deadline = time.monotonic() + _START_S
            while not topics.load().topics.keys() <= node.list_topics(timeout=10).topics.keys():
                assert time.monotonic() < deadline, f"{address} does not learn of the topics"
                time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM; but a cluster is killed, for nodes that end at the same time wait for one another."""
        if len(self._servers) > 1:
            self.kill()
        else:
            super().stop()

    def kill_node(self, number: int) -> None:
        """SIGKILL."""
        process.kill(self._processes[number])
        self._processes[number].wait()

    def pause_node(self, number: int) -> None:
        """SIGSTOP: it holds its connections and says nothing."""
        os.killpg(self._processes[number].pid, signal.SIGSTOP)

    def resume_node(self, number: int) -> None:
        """SIGCONT, after `pause_node`."""
        os.killpg(self._processes[number].pid, signal.SIGCONT)

    def spawn_node(self, number: int) -> None:
        """Starts a killed node, and waits for nothing. From the main thread: it ends with the thread that spawns it."""
        self._processes[number] = self._spawn(self._servers[number])

    def wait_for_node(self, number: int) -> None:
        """Returns once the node serves."""
        self._wait(number)


def pytest_report_header() -> str:
    """Says which logs the tests run on."""
    reason = embedded_kafka.unavailable_reason()
    return f"logs: embedded, {f'Apache Kafka NOT ({reason})' if reason else f'Apache Kafka {VERSION}'}"


@pytest.fixture(scope="session")
def kafka_lane() -> None:
    """Skips the test where Apache Kafka cannot run."""
    if reason := embedded_kafka.unavailable_reason():
        pytest.skip(reason)


def _running(nodes: KafkaNodes) -> Iterator[KafkaNodes]:
    try:
        nodes.start()
        topics.apply(nodes.settings, embedded=True)
        nodes.wait_for_topics()
        yield nodes
    finally:
        nodes.kill()  # quicker, and nobody needs its data any more


@pytest.fixture(scope="session")
def real_kafka_server(kafka_lane: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNodes]:
    """The shared node of Apache Kafka, with every topic. Do not stop it."""
    yield from _running(KafkaNodes(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def real_kafka(real_kafka_server: KafkaNodes) -> KafkaSettings:
    """How to reach the shared node."""
    return real_kafka_server.settings


@pytest.fixture(scope="module")
def kafka_node(kafka_lane: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNodes]:
    """A node of the module's own, with every topic, to be killed; leave it running."""
    yield from _running(KafkaNodes(tmp_path_factory.mktemp("kafka-node")))


@pytest.fixture(scope="module")
def kafka_cluster(kafka_lane: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNodes]:
    """Three nodes, with every topic three times, to be killed and paused one at a time; leave all running."""
    yield from _running(KafkaNodes(tmp_path_factory.mktemp("kafka-cluster"), nodes=3))


@pytest.fixture(scope="session", params=BOTH)
def any_log(request: pytest.FixtureRequest) -> KafkaSettings:
    """A log with every topic: the test runs on the embedded one and on Apache Kafka."""
    settings: KafkaSettings = request.getfixturevalue("kafka" if request.param == "embedded" else "real_kafka")
    return settings


@pytest.fixture(params=BOTH)
def own_log(request: pytest.FixtureRequest) -> RunningServer:
    """As `any_log`, but of the test's own: to be stopped and started again; leave it running."""
    if request.param == "kafka":
        node: KafkaNodes = request.getfixturevalue("kafka_node")
        return node
    server: RunningServer = request.getfixturevalue("start_server")("log")
    return server
