"""Embedded log: noida-db, one binary that speaks Kafka's protocol.

It keeps the log in memory and writes it to a file every few seconds and on SIGTERM. This is sufficient for a trial, but
the log is not durable. It never expires a dead consumer, so consumers need static membership (`kafka.instance_id`).
"""

import importlib.util
import stat
import sys
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from audiotext.embedded.server import LOOPBACK, MissingExtraError, Server, port_is_open
from audiotext.embedded.state import State

NAME = "log"
_PROXY = "audiotext.embedded.kafka_longpoll_proxy"  # a name: starting it needs no import
NOT_DURABLE = (
    "the embedded log can lose up to the last 3 s of audio if it crashes; "
    "for production, run Redpanda and set AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"
)


def servers(state: State) -> list[Server]:
    """Returns the embedded log for `data_dir/log`, and the proxy in front of it. Raises MissingExtraError."""
    inside, port = state.port("log.inside"), state.port("log")
    data = state.data_dir / "log"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = (str(_binary()), "start", "--data-dir", str(data), "--only", "kafka", "--kafka-port", str(inside))

    def answers() -> bool:
        if not port_is_open(port) or not port_is_open(inside):
            return False
        try:
            AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}", "log_level": 2}).list_topics(timeout=2)
        except KafkaException:
            return False
        return True

    address = {"AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{port}"}
    front = (sys.executable, "-m", _PROXY, "--port", str(port), "--upstream", str(inside))
    return [
        Server(name=NAME, command=command, addresses={}, is_ready=lambda: port_is_open(inside)),
        Server(name="log-front", command=front, addresses=address, is_ready=answers),
    ]


def _binary() -> Path:
    # Not the `noida-db` script, because it is a Python process that does not forward SIGTERM.
    spec = importlib.util.find_spec("noida_db")
    if spec is None or spec.origin is None:
        raise MissingExtraError("the embedded log (noida-db)")
    binary = Path(spec.origin).with_name("noida-db")
    mode = binary.stat().st_mode
    if not mode & stat.S_IXUSR:
        binary.chmod(mode | stat.S_IXUSR)
    return binary
