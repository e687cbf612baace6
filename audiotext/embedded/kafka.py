"""Apache Kafka on this machine, in KRaft mode: one node, or a cluster of three that survives the loss of one.

Unlike the small embedded log, it keeps all acknowledged records after a SIGKILL, because the page cache outlives the
process. Only a crash of the machine can lose records that are not on disk yet; a cluster on one machine does not
prevent that. It needs Java; Maven downloads the jars, see `kafka_jars`. It listens on the loopback interface only,
without credentials.
"""

import hashlib
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from audiotext.embedded import kafka_jars
from audiotext.embedded.kafka_jars import KafkaMissingError
from audiotext.embedded.server import LOOPBACK, Server, ServerError, port_is_open
from audiotext.embedded.state import State

__all__ = ["KafkaMissingError", "servers", "unavailable_reason"]

_REQUEST_TIMEOUT_S = 2.0
_FORMAT_TIMEOUT_S = 60
# Small and quick to start. A call is 2 records per second, so the optimising compiler would cost more than it saves; a
# start without it takes half the processor time.
_JVM = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.apache.logging.log4j.level=WARN",  # for log4j's default configuration, which writes to stdout
)


@dataclass(frozen=True, slots=True)
class _Node:
    """One node: controller and broker in one process. directory: all its files."""

    id: int
    port: int
    controller_port: int
    directory: Path

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"


def unavailable_reason() -> str | None:
    """Returns the reason why this machine cannot run Apache Kafka, in one sentence, or None. Downloads nothing."""
    return kafka_jars.unavailable_reason()


def servers(state: State, nodes: int = 1) -> list[Server]:
    """Returns the nodes for `data_dir/kafka`, which must be started together, and formats new storage.

    nodes: 1 or 3; it must not change for a directory. Downloads the jars if needed. Raises KafkaMissingError, and
    ServerError if the storage cannot be formatted.
    """
    jars = kafka_jars.fetch()
    java = (kafka_jars.java_binary() or "java", *_JVM, "-cp", f"{jars}/*")
    cluster = [
        _Node(number, state.port(f"kafka-{number}"), state.port(f"kafka-{number}.controller"), directory)
        for number in range(1, nodes + 1)
        for directory in [state.data_dir / "kafka" / f"node-{number}"]
    ]
    for node in cluster:
        node.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = _configuration(node, cluster)
        node.properties.write_text("".join(f"{name}={value}\n" for name, value in content.items()))
    # Not a secret, but unique for this directory, so that a node never joins another cluster that has taken its port.
    cluster_id = hashlib.sha256(state.secret("kafka.cluster").encode()).hexdigest()[:22]
    _format(java, cluster_id, cluster)
    bootstrap = ",".join(f"{LOOPBACK}:{node.port}" for node in cluster)
    return [_server(java, node, bootstrap) for node in cluster]


def _configuration(node: _Node, cluster: Sequence[_Node]) -> dict[str, str]:
    """Returns a node's configuration with Kafka's names."""
    copies = str(len(cluster))
    in_sync = "2" if len(cluster) > 2 else "1"
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": node.id,
        "controller.quorum.voters": ",".join(f"{one.id}@{LOOPBACK}:{one.controller_port}" for one in cluster),
        "listeners": f"BROKER://{LOOPBACK}:{node.port},CONTROLLER://{LOOPBACK}:{node.controller_port}",
        "advertised.listeners": f"BROKER://{LOOPBACK}:{node.port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(node.directory / "log"),
        # Topics are created from topics.yaml only; a client's misspelled name must not create one.
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # The defaults of 50 each are for large clusters.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 1,
        # A machine that was off for weeks must not lose its committed offsets.
        "offsets.retention.minutes": 365 * 24 * 60,
        "group.initial.rebalance.delay.ms": 0,  # the default waits for members that join later
        # Time after which a killed node may join again, and a hung node is replaced.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        # Threads and buffers for one machine.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    }
    return {name: str(value) for name, value in settings.items()}


def _format(java: Sequence[str], cluster_id: str, cluster: Sequence[_Node]) -> None:
    """Formats the storage of new nodes in parallel, because each needs the start of a JVM."""
    unformatted = [node for node in cluster if not (node.directory / "log" / "meta.properties").exists()]
    command = (*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", cluster_id, "--config")
    run = partial(subprocess.run, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)
    with ThreadPoolExecutor(len(cluster)) as pool:
        for done in pool.map(run, [(*command, str(node.properties)) for node in unformatted]):
            if done.returncode != 0:
                raise ServerError(f"the storage of Apache Kafka cannot be formatted: {done.stdout}{done.stderr}")


def _server(java: Sequence[str], node: _Node, bootstrap: str) -> Server:
    return Server(
        name=f"kafka-{node.id}",
        command=(*java, "kafka.Kafka", str(node.properties)),
        addresses={"AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS": bootstrap},
        is_ready=lambda: port_is_open(node.port) and _is_ready(node),
        cwd=node.directory,
    )


def _is_ready(node: _Node) -> bool:
    """Returns True if the node has joined its cluster and its group coordinator answers."""
    client = Consumer(
        {
            "bootstrap.servers": f"{LOOPBACK}:{node.port}",
            "group.id": "audiotext-ready",
            "log_level": 0,  # hides the refused connections during the start
        }
    )
    try:
        if node.id not in client.list_topics(timeout=_REQUEST_TIMEOUT_S).brokers:
            return False
        client.committed(
            [TopicPartition("audiotext-ready", 0)], timeout=_REQUEST_TIMEOUT_S
        )  # asks the group's coordinator
    except KafkaException:
        return False
    finally:
        client.close()
    return True
