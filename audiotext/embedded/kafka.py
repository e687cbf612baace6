"""Apache Kafka on this machine, in KRaft mode: one node, or a cluster of three that survives the loss of one.

Unlike the small embedded log it keeps what it acknowledged through its own SIGKILL (the page cache outlives the
process; only the machine's own crash can take what is not on disk yet, and a cluster on one machine is no help there).
Needs Java; the jars come by Maven, see `kafka_jars`. Listens on the loopback interface only, without credentials.
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
from audiotext.embedded.server import LOOPBACK, Server, ServerError, port_answers
from audiotext.embedded.state import State

__all__ = ["KafkaMissingError", "available", "servers"]

_ASK_S = 2.0
_FORMAT_TIMEOUT_S = 60
# Small and quick to start: a call is 2 records a second, and the optimising compiler would cost more than it gains
# (a start takes half the processor time without it).
_JVM = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.apache.logging.log4j.level=WARN",  # of log4j's default configuration, which writes to stdout
)


@dataclass(frozen=True, slots=True)
class _Node:
    """One node, controller and broker in one process. directory: all it keeps."""

    id: int
    port: int
    controller_port: int
    directory: Path

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"


def available() -> str | None:
    """Why this machine cannot run Apache Kafka, in one sentence; None if it can. Fetches nothing."""
    return kafka_jars.unavailable()


def servers(state: State, nodes: int = 1) -> list[Server]:
    """The nodes over `data_dir/kafka`, to be started together; the first time their storage is formatted.

    nodes: 1 or 3, the same for the life of the directory. Fetches the jars if need be. Raises KafkaMissingError, and
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
    # Not a secret, but made up for this directory: a node never joins a stranger's cluster that has taken its port.
    cluster_id = hashlib.sha256(state.secret("kafka.cluster").encode()).hexdigest()[:22]
    _format(java, cluster_id, cluster)
    bootstrap = ",".join(f"{LOOPBACK}:{node.port}" for node in cluster)
    return [_server(java, node, bootstrap) for node in cluster]


def _configuration(node: _Node, cluster: Sequence[_Node]) -> dict[str, str]:
    """A node's configuration, in Kafka's words."""
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
        # Topics are made as topics.yaml says, never by a client's typo.
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # The defaults, 50 each, are for many machines.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 1,
        # A machine that was off for a week must not forget what it had done.
        "offsets.retention.minutes": 365 * 24 * 60,
        "group.initial.rebalance.delay.ms": 0,  # it waits for members that come later; ours are all there
        # Only after so long may a killed node come back, and is a hung one replaced.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        # One machine's worth of threads and buffers.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    }
    return {name: str(value) for name, value in settings.items()}


def _format(java: Sequence[str], cluster_id: str, cluster: Sequence[_Node]) -> None:
    """Prepares the storage of nodes that have none, all at the same time: each takes a JVM's start."""
    bare = [node for node in cluster if not (node.directory / "log" / "meta.properties").exists()]
    command = (*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", cluster_id, "--config")
    run = partial(subprocess.run, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)
    with ThreadPoolExecutor(len(cluster)) as pool:
        for done in pool.map(run, [(*command, str(node.properties)) for node in bare]):
            if done.returncode != 0:
                raise ServerError(f"the storage of Apache Kafka cannot be formatted: {done.stdout}{done.stderr}")


def _server(java: Sequence[str], node: _Node, bootstrap: str) -> Server:
    return Server(
        name=f"kafka-{node.id}",
        command=(*java, "kafka.Kafka", str(node.properties)),
        addresses={"AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS": bootstrap},
        answers=lambda: port_answers(node.port) and _serves(node),
        cwd=node.directory,
    )


def _serves(node: _Node) -> bool:
    """Whether the node is in its cluster and groups can be joined."""
    client = Consumer(
        {
            "bootstrap.servers": f"{LOOPBACK}:{node.port}",
            "group.id": "audiotext-ready",
            "log_level": 0,  # that it refuses connections for a moment is no news
        }
    )
    try:
        if node.id not in client.list_topics(timeout=_ASK_S).brokers:
            return False
        client.committed([TopicPartition("audiotext-ready", 0)], timeout=_ASK_S)  # asks the group's coordinator
    except KafkaException:
        return False
    finally:
        client.close()
    return True
