"""Tests with an Apache Kafka whose listener requires TLS and SCRAM."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from pydantic import SecretStr

from audiotext.doctor import stores
from audiotext.embedded import kafka as embedded_kafka
from audiotext.embedded.server import Server
from audiotext.embedded.state import State
from core.settings import KafkaSettings, Settings
from redpanda import topics
from redpanda.client import EventProducer
from redpanda.consumer_monitor import ConsumerMonitor
from redpanda.quix_app import application
from schemas.topics import Topic
from tests.support import certificates
from tests.support.call_events import Call
from tests.support.certificates import Certificates
from tests.support.running_server import RunningServer

pytestmark = pytest.mark.kafka
_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"
PASSWORD = "a password of some length"


def _servers(state: State, pki: Certificates, port: int) -> Sequence[Server]:
    """Returns the usual node with a second listener: SASL_SSL, SCRAM only, client certificates required."""
    servers = embedded_kafka.servers(state)
    properties = state.data_dir / "kafka" / "node-1" / "server.properties"
    lines = dict(line.split("=", 1) for line in properties.read_text().splitlines())
    lines["listeners"] += f",SECURE://127.0.0.1:{port}"
    lines["advertised.listeners"] += f",SECURE://127.0.0.1:{port}"
    lines["listener.security.protocol.map"] += ",SECURE:SASL_SSL"
    listener = "listener.name.secure."
    lines |= {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{listener}scram-sha-512.sasl.jaas.config": f"{_LOGIN} required;",
        f"{listener}ssl.keystore.type": "PEM",
        f"{listener}ssl.keystore.location": str(pki.pair),
        f"{listener}ssl.truststore.type": "PEM",
        f"{listener}ssl.truststore.location": str(pki.ca),
        f"{listener}ssl.client.auth": "required",
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return servers


@pytest.fixture(scope="module")
def secure(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """Starts the log and returns its settings, with its one user."""
    directory: Path = tmp_path_factory.mktemp("secure-kafka")
    pki = certificates.make(directory)
    port = State(directory).port("kafka-secure")
    server = RunningServer(directory, lambda state: _servers(state, pki, port), start_timeout_s=90)
    try:
        plain = server.start().addresses["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"]
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        user = UserScramCredentialUpsertion("audiotext", scram, PASSWORD.encode())
        admin = AdminClient({"bootstrap.servers": plain})  # kept in a variable: its requests end with it
        admin.alter_user_scram_credentials([user])["audiotext"].result(60)
        yield KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{port}",
            security_protocol="sasl_ssl",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="audiotext",
            sasl_password=SecretStr(PASSWORD),
            ssl_ca_location=pki.ca,
            ssl_certificate_location=pki.cert,
            ssl_key_location=pki.key,
        )
    finally:
        server.kill()


def test_every_client_authenticates(secure: KafkaSettings) -> None:
    """Creates the topics, produces an event and reads it with a Quix application, over TLS and SCRAM.

    The broker also demands a client certificate. All clients get their connection from the same settings. A failure
    means that a service cannot use a log that requires credentials.
    """
    topics.apply(secure, embedded=True)
    event = Call("CA-secure").usage()
    EventProducer(secure).send(Topic.USAGE_RECORDED, [event], timeout_s=60)
    app = application(Settings(kafka=secure), ConsumerMonitor("secure-test"), commit_interval_s=0.2)
    read: list[bytes] = []
    topic = app.topic(Topic.USAGE_RECORDED.value, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).update(read.append)
    app.run(count=1, timeout=60)
    assert [event.event_id.encode() in value for value in read] == [True]
    found = stores.log(secure, embedded=True)
    assert (found.ok, found.fix) == (True, "")


def test_doctor_distinguishes_wrong_password_and_wrong_authority(secure: KafkaSettings) -> None:
    """Checks a log with a wrong password and one with a wrong CA: the fix must name the setting in question.

    librdkafka reports both as a failed connection.
    """
    refused = stores.log(secure.model_copy(update={"sasl_password": SecretStr("wrong")}), embedded=True)
    assert not refused.ok
    assert "SASL_PASSWORD" in refused.fix
    unknown = stores.log(secure.model_copy(update={"ssl_ca_location": None}), embedded=True)
    assert not unknown.ok
    assert "SSL_CA_LOCATION" in unknown.fix
