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

from audiotext.embedded import scram
from audiotext.embedded.private_network import PrivateNetwork
from audiotext.embedded.server import LOOPBACK, MissingExtraError, Server, port_is_open
from audiotext.embedded.state import State

NAME = "log"
USER = "audiotext"
PASSWORD_VARIABLE = "EMBEDDED_LOG_PASSWORD"
_PROXY = "audiotext.embedded.kafka_longpoll_proxy"  # a name: starting it needs no import
NOT_DURABLE = (
    "the embedded log can lose up to the last 3 s of audio if it crashes; "
    "for production, run Redpanda and set AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"
)


NOT_PRIVATE = (
    "this system does not allow a private network, so the embedded log is open to the other users of this machine; "
    "docs/security.md explains how to allow it"
)


def servers(state: State) -> list[Server]:
    """Returns the embedded log for `data_dir/log`, and the proxy in front of it. Raises MissingExtraError.

    noida-db has no authentication, so it runs in a private network if the system allows it. Clients authenticate at the
    proxy.
    """
    inside, port = state.port("log.inside"), state.port("log")
    password = state.secret("log")
    data = state.data_dir / "log"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    command: tuple[str, ...] = (
        str(_binary()),
        "start",
        "--data-dir",
        str(data),
        "--only",
        "kafka",
        "--kafka-port",
        str(inside),
    )

    def answers() -> bool:
        if not port_is_open(port):
            return False
        login = {"security.protocol": "sasl_plaintext", "sasl.mechanism": scram.MECHANISM, "sasl.username": USER}
        client = {"bootstrap.servers": f"{LOOPBACK}:{port}", "log_level": 2, "sasl.password": password}
        try:
            AdminClient(login | client).list_topics(timeout=2)
        except KafkaException:
            return False
        return True

    addresses = {
        "AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{port}",
        "AUDIOTEXT_KAFKA__SECURITY_PROTOCOL": "sasl_plaintext",
        "AUDIOTEXT_KAFKA__SASL_MECHANISM": scram.MECHANISM,
        "AUDIOTEXT_KAFKA__SASL_USERNAME": USER,
        "AUDIOTEXT_KAFKA__SASL_PASSWORD": password,
    }
    front: tuple[str, ...] = (sys.executable, "-m", _PROXY, "--port", str(port), "--upstream", str(inside))
    network = PrivateNetwork.create()
    if network is not None:
        command = network.command(command)
        front += ("--network", ",".join(str(number) for number in network.descriptors))
    return [
        # Its port cannot be seen from here; the proxy answers only if the log does.
        Server(name=NAME, command=command, addresses={}, is_ready=lambda: True, network=network),
        Server(
            name="log-front",
            command=front,
            env={PASSWORD_VARIABLE: password},
            addresses=addresses,
            is_ready=answers,
            network=network,
        ),
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
