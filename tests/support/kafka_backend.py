"""Apache Kafka for tests: one node, or a cluster of three, if Java and Maven are installed.

The embedded log cannot show the death of a broker or the replacement of a dead consumer, so those guarantees are tested
here. A pytest plugin, loaded by tests/conftest.py.
"""

import asyncio
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
    """Returns the configuration of a producer for the test's own input: like AudioText's, but not idempotent.

    An idempotent producer delays its first record by half a second, until librdkafka checks again if it has its id.
    """
    return producer_config(kafka) | {"enable.idempotence": False}


class KafkaNodes(RunningServer):
    """One node or three. Each can be killed, paused and started again by its number, from 0."""

    def __init__(self, data_dir: Path, nodes: int = 1) -> None:
        super().__init__(data_dir, lambda state: embedded_kafka.servers(state, nodes), start_timeout_s=_START_S)

    @property
    def settings(self) -> KafkaSettings:
        """Returns the settings of the log. Topics have a copy on every node."""
        bootstrap = self.addresses["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"]
        return KafkaSettings(bootstrap_servers=bootstrap, replication_factor=len(self._servers))

    def wait_for_topics(self) -> None:
        """Returns when every node knows every topic. The other nodes of a cluster learn of a new topic later."""
        for address in self.addresses["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"].split(","):
            node = AdminClient({"bootstrap.servers": address})
            deadline = time.monotonic() + _START_S
            while not topics.load().topics.keys() <= node.list_topics(timeout=10).topics.keys():
                assert time.monotonic() < deadline, f"{address} does not learn of the topics"
                time.sleep(0.05)

    def stop(self) -> None:
        """Sends SIGTERM. Kills a cluster, because nodes that end at the same time wait for each other."""
        if len(self._servers) > 1:
            self.kill()
        else:
            super().stop()

    def kill_node(self, number: int) -> None:
        """Sends SIGKILL."""
        process.kill(self._processes[number])
        self._processes[number].wait()

    def pause_node(self, number: int) -> None:
        """Sends SIGSTOP: the node keeps its connections and does not answer."""
        os.killpg(self._processes[number].pid, signal.SIGSTOP)

    def resume_node(self, number: int) -> None:
        """Sends SIGCONT, after `pause_node`."""
        os.killpg(self._processes[number].pid, signal.SIGCONT)

    def spawn_node(self, number: int) -> None:
        """Starts a killed node without waiting.

        Call it from the main thread: the node ends with the thread that starts it.
        """
        self._processes[number] = self._spawn(self._servers[number])

    def wait_for_node(self, number: int) -> None:
        """Returns when the node serves clients."""
        self._wait(number)


def pytest_report_header() -> str:
    """Says which logs the tests run on."""
    reason = embedded_kafka.unavailable_reason()
    return f"logs: embedded, {f'Apache Kafka NOT ({reason})' if reason else f'Apache Kafka {VERSION}'}"


@pytest.fixture(scope="session")
def kafka_installed() -> None:
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
def real_kafka_server(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNodes]:
    """Starts the shared node of Apache Kafka, with all topics. Do not stop it."""
    yield from _running(KafkaNodes(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def real_kafka(real_kafka_server: KafkaNodes) -> KafkaSettings:
    """Returns the settings of the shared node."""
    return real_kafka_server.settings


@pytest.fixture(scope="module")
def kafka_node(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNodes]:
    """Starts a node for the module, with all topics. Tests may kill it, and must leave it running."""
    yield from _running(KafkaNodes(tmp_path_factory.mktemp("kafka-node")))


@pytest.fixture(scope="module")
def kafka_cluster(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNodes]:
    """Starts three nodes with three copies of all topics.

    Tests may kill or pause one at a time, and must leave all running.
    """
    yield from _running(KafkaNodes(tmp_path_factory.mktemp("kafka-cluster"), nodes=3))


@pytest.fixture(scope="session", params=BOTH)
def any_log(request: pytest.FixtureRequest) -> KafkaSettings:
    """Returns the settings of a log with all topics. The test runs on the embedded log and on Apache Kafka."""
    settings: KafkaSettings = request.getfixturevalue("kafka" if request.param == "embedded" else "real_kafka")
    return settings


@pytest.fixture(params=BOTH)
def own_log(request: pytest.FixtureRequest) -> RunningServer:
    """Like `any_log`, but for this test only. The test may stop and start it, and must leave it running."""
    if request.param == "kafka":
        node: KafkaNodes = request.getfixturevalue("kafka_node")
        return node
    server: RunningServer = request.getfixturevalue("start_server")("log")
    return server


async def restarted(nodes: KafkaNodes, number: int = 0, down_s: float = 1.0) -> None:
    """Kills a node, starts it again after `down_s`, and returns when it serves clients."""
    nodes.kill_node(number)
    await asyncio.sleep(down_s)
    nodes.spawn_node(number)
    await asyncio.to_thread(nodes.wait_for_node, number)
