"""The embedded log: noida-db, one binary that speaks Kafka's protocol.

It keeps the log in memory and writes it to one file every few seconds and on SIGTERM: good for trying things out,
not a durable log. It never expires a dead consumer, so consumers need static membership (`kafka.instance_id`).
"""

import importlib.util
import stat
import sys
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from audiotext.embedded.server import LOOPBACK, MissingExtraError, Server, port_answers
from audiotext.embedded.state import State

NAME = "log"
_PROXY = "audiotext.embedded.kafka_longpoll_proxy"  # by name: whoever only starts it need not wait for its imports
NOT_DURABLE = (
    "the embedded log does not survive its own crash (up to the last 3 s of audio are gone); "
    "for calls that count, run Redpanda and set AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"
)


def servers(state: State) -> list[Server]:
    """The embedded log over `data_dir/log`, and the proxy through which it is reached. Raises MissingExtraError."""
    inside, port = state.port("log.inside"), state.port("log")
    data = state.data_dir / "log"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = (str(_binary()), "start", "--data-dir", str(data), "--only", "kafka", "--kafka-port", str(inside))

    def answers() -> bool:
        if not port_answers(port) or not port_answers(inside):
            return False
        try:
            AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}", "log_level": 2}).list_topics(timeout=2)
        except KafkaException:
            return False
        return True

    address = {"AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{port}"}
    front = (sys.executable, "-m", _PROXY, "--port", str(port), "--upstream", str(inside))
    return [
        Server(name=NAME, command=command, addresses={}, answers=lambda: port_answers(inside)),
        Server(name="log-front", command=front, addresses=address, answers=answers),
    ]


def _binary() -> Path:
    # Not the `noida-db` script: that is a Python process in between, which does not pass SIGTERM on.
    spec = importlib.util.find_spec("noida_db")
    if spec is None or spec.origin is None:
        raise MissingExtraError("the embedded log (noida-db)")
    binary = Path(spec.origin).with_name("noida-db")
    mode = binary.stat().st_mode
    if not mode & stat.S_IXUSR:
        binary.chmod(mode | stat.S_IXUSR)
    return binary
