"""Tests of the configuration of Quix applications and of their hooks. No test connects to a log."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from confluent_kafka import Message
from pydantic import SecretStr
from quixstreams import Application
from quixstreams.internal_consumer import InternalConsumer
from quixstreams.internal_producer import InternalProducer

from core.settings import KafkaSettings, Settings
from redpanda.client import LogUnavailableError
from redpanda.consumer_monitor import ConsumerMonitor
from redpanda.quix_app import AudioTextApplication, application, empty_state_dir

SETTINGS = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"))

pytestmark = pytest.mark.server


def test_configuration_loses_no_record() -> None:
    """Reads the settings that Quix gives to its consumer and producer.

    Checkpoints alone commit offsets, a new group starts at the earliest record, a restarted process is the same member,
    and the producer never gives up. A failure means that records can be skipped.
    """
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9", instance_id="7"))

    config = application(settings, ConsumerMonitor("usage"), commit_interval_s=0.2).config

    assert config.consumer_group == "usage"
    assert config.auto_offset_reset == "earliest"
    assert config.consumer_extra_config["group.instance.id"] == "usage-7"
    assert "enable.auto.commit" not in config.consumer_extra_config
    assert config.producer_extra_config["acks"] == "all"
    assert config.producer_extra_config["message.timeout.ms"] == 0
    # The same partitioner as every other producer's; otherwise the records of a call would be on two partitions.
    assert config.producer_extra_config["partitioner"] == "murmur2_random"
    assert config.consumer_poll_timeout < config.commit_interval
    assert (config.use_changelog_topics, config.auto_create_topics) == (False, False)


def test_clients_get_the_arguments_of_quix(tmp_path: Path) -> None:
    """Compares our consumer and producer with those that Quix itself creates from the same settings.

    Both kinds of producer are compared, because a transactional id must not reach a producer without transactions. A
    failure means that a new version of Quix passes other arguments, which `AudioTextApplication` must pass as well.
    """
    app = AudioTextApplication(
        SETTINGS,
        ConsumerMonitor("recorder"),
        producer_options={"transactional.id": "recorder-1"},
        processing_guarantee="exactly-once",
        state_dir=tmp_path,
    )

    consumer = Application._get_internal_consumer(app, extra_config_overrides={"client.id": "x"})
    assert _options(app._get_internal_consumer(extra_config_overrides={"client.id": "x"})) == _options(consumer)
    for transactional in (None, True, False):
        producer = Application._get_internal_producer(app, transactional=transactional)
        ours = app._get_internal_producer(transactional=transactional)
        assert _options(ours._producer) == _options(producer._producer)


def _options(client: object) -> dict[str, object]:
    """The client's attributes that Quix derives from its arguments; callbacks and lazily created objects left out."""
    found: dict[str, object] = {}
    for name, value in vars(client).items():
        if isinstance(value, (str, int, float, bool)):
            found[name] = value
        elif isinstance(value, dict):
            found[name] = {key: item for key, item in value.items() if not callable(item)}
    return found


def test_credentials_reach_the_connection() -> None:
    """Configures SASL: mechanism, user and password must be in Quix' connection, or no service could connect."""
    kafka = KafkaSettings(
        bootstrap_servers="broker:9092",
        security_protocol="sasl_ssl",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="audiotext",
        sasl_password=SecretStr("secret"),
    )

    app = application(Settings(kafka=kafka), ConsumerMonitor("usage"), commit_interval_s=1)

    assert app.config.broker_address.as_librdkafka_dict() == {
        "bootstrap.servers": "broker:9092",
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "audiotext",
        "sasl.password": "secret",
    }


def test_missing_log_names_the_setting() -> None:
    """Creates an application without a log: the error must name the missing setting."""
    with pytest.raises(LogUnavailableError, match="AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"):
        application(Settings(), ConsumerMonitor("usage"), commit_interval_s=1)


_HANGS = """
import sys, time
from quixstreams import Application
from quixstreams.internal_consumer import InternalConsumer
from quixstreams.internal_producer import InternalProducer
from core.settings import KafkaSettings, Settings
from redpanda import commit_watchdog, quix_app
from redpanda.consumer_monitor import ConsumerMonitor

def never_answered(*args, **more):
    time.sleep(60)

setattr({"_consumer": InternalConsumer, "_producer": InternalProducer}[sys.argv[1]], sys.argv[2], never_answered)
Application.run = lambda app: getattr(getattr(app, sys.argv[1]), sys.argv[2])([], None)
commit_watchdog.COMMIT_TIMEOUT_S, commit_watchdog.CHECK_INTERVAL_S = 0.3, 0.1
commit_watchdog.is_reachable = lambda kafka: True
settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"))
quix_app.application(settings, ConsumerMonitor("usage"), commit_interval_s=1).run_monitored(())
"""


@pytest.mark.parametrize("commit", [("_producer", "commit_transaction"), ("_consumer", "commit")])
def test_hanging_commit_ends_the_process(commit: tuple[str, str]) -> None:
    """Runs an application whose commit never returns, while the log answers other clients.

    librdkafka does this if the group's coordinator dies at that moment. The process must end with exit code 1 and a
    stack trace, so that a new one continues; otherwise every call of its partitions waits.
    """
    command, root = [sys.executable, "-c", _HANGS, *commit], Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "has not finished a commit" in ended.stderr
    assert "never_answered" in ended.stderr


def test_polls_and_flushes_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls and flushes without a log: each must beat.

    A failure means that the supervisor kills a service that restores its state or waits for the log.
    """
    monkeypatch.setattr(InternalConsumer, "poll", lambda _self, _timeout: None)
    monkeypatch.setattr(InternalProducer, "flush", lambda _self, _timeout: 0)
    monitor = ConsumerMonitor("usage")
    app = application(SETTINGS, monitor, commit_interval_s=1)
    polled: list[Message | None] = []
    beats: list[None] = []
    monkeypatch.setattr(monitor, "record_poll", polled.append)
    monkeypatch.setattr(monitor.heartbeat, "beat", lambda: beats.append(None))

    app._consumer.poll(0.1)
    assert app._producer.flush() == 0

    assert (len(polled), len(beats)) == (1, 1)


def test_monitor_stops_before_the_consumer_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends an application and records the order in which its parts end.

    The monitor's requests must end first. In the other order a request gets no answer, and the process ends seconds
    later, which is longer than Ctrl-C may take.
    """
    ended: list[str] = []
    monkeypatch.setattr(InternalConsumer, "close", lambda _self: ended.append("consumer closed"))
    monkeypatch.setattr(AudioTextApplication, "run", lambda app: app._consumer.close())
    monitor = ConsumerMonitor("usage")
    monkeypatch.setattr(monitor, "stop", lambda: ended.append("monitor stopped"))

    application(SETTINGS, monitor, commit_interval_s=1).run_monitored([])

    assert ended[:2] == ["monitor stopped", "consumer closed"]


def test_another_user_s_directory_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks for the directory where it is missing, where it exists, and where another user could have created it: as a
    link, or with rights for everybody. Only a private directory may be used."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = empty_state_dir()
    assert usual == tmp_path / f"audiotext-{os.getuid()}"
    assert usual == empty_state_dir()
    usual.chmod(0o777)
    open_to_all = empty_state_dir()
    usual.rmdir()
    usual.symlink_to("/etc")
    linked = empty_state_dir()
    for found in (open_to_all, linked):
        assert found != usual
        assert stat.S_IMODE(found.stat().st_mode) == 0o700
