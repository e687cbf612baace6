"""The configuration of Quix applications. Nothing is connected to."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.settings import KafkaSettings, Settings
from redpanda import quix_app
from redpanda.client import LogUnavailableError
from redpanda.consumer_monitor import ConsumerMonitor
from redpanda.quix_app import application


def test_an_application_keeps_what_loses_nothing() -> None:
    """Looks at what Quix hands to its consumer and producer: offsets are committed only by checkpoints, a new group
    starts at the earliest record, a restarted process is the same member, the producer never gives a record up."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9", instance_id="7"))

    config = application(settings, "usage", commit_interval_s=0.2).config

    assert config.auto_offset_reset == "earliest"
    assert config.consumer_extra_config["group.instance.id"] == "usage-7"
    assert "enable.auto.commit" not in config.consumer_extra_config
    assert config.producer_extra_config["acks"] == "all"
    assert config.producer_extra_config["message.timeout.ms"] == 0
    # The same partitioner as every other producer's, or a call's records would lie in two partitions.
    assert config.producer_extra_config["partitioner"] == "murmur2_random"
    assert config.consumer_poll_timeout < config.commit_interval


def test_credentials_reach_the_connection() -> None:
    """A log with SASL: mechanism, user and password arrive, or no service could connect to it."""
    kafka = KafkaSettings(
        bootstrap_servers="broker:9092",
        security_protocol="sasl_ssl",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="audiotext",
        sasl_password=SecretStr("secret"),
    )

    connection = application(Settings(kafka=kafka), "usage", commit_interval_s=1).config.broker_address

    assert connection.as_librdkafka_dict() == {
        "bootstrap.servers": "broker:9092",
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "audiotext",
        "sasl.password": "secret",
    }


def test_only_state_has_changelogs(tmp_path: Path) -> None:
    """Without a state directory no changelog topic is made, and no missing topic either."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"))

    without = application(settings, "usage", commit_interval_s=1).config
    with_state = application(settings, "recorder", commit_interval_s=1, state_dir=tmp_path).config

    assert (without.use_changelog_topics, without.auto_create_topics) == (False, False)
    assert (with_state.use_changelog_topics, with_state.state_dir) == (True, tmp_path)


def test_not_configured_says_what_to_set() -> None:
    """Without a log the error names the setting that is missing."""
    with pytest.raises(LogUnavailableError, match="AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"):
        application(Settings(), "usage", commit_interval_s=1)


_HANGS = """
import sys, time
from core.settings import KafkaSettings, Settings
from redpanda import commit_watchdog, quix_app
from redpanda.consumer_monitor import ConsumerMonitor

def never_answered(*args, **more):
    time.sleep(60)

settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"))
app = quix_app.application(settings, "usage", commit_interval_s=1)
client = getattr(app, sys.argv[1])
setattr(client, sys.argv[2], never_answered)
app.run = lambda: getattr(client, sys.argv[2])([], None)
commit_watchdog.LIMIT_S, commit_watchdog.LOOK_EVERY_S = 0.3, 0.1
commit_watchdog.answers = lambda kafka: True
quix_app.run(app, settings, ConsumerMonitor("usage"), ())
"""


@pytest.mark.parametrize("commit", [("_producer", "commit_transaction"), ("_consumer", "commit")])
def test_a_commit_that_never_comes_back_ends_the_process(commit: tuple[str, str]) -> None:
    """The log's client waits for ever in a commit, as librdkafka does if the group's coordinator dies at that moment,
    while the log answers others: the process ends, and says where it was, so that another one goes on. It held up every
    call of its partitions for two minutes before, until somebody outside saw that it hangs."""
    command, root = [sys.executable, "-c", _HANGS, *commit], Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "has not taken a commit" in ended.stderr
    assert "never_answered" in ended.stderr


def test_the_log_is_asked_nothing_once_its_consumer_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application ends while its lag is asked for: the questions end first, then the consumer is closed. The other
    way round the question is never answered, and whoever ends waits seconds for it, more than Ctrl-C may take."""
    ended: list[str] = []
    app = application(Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9")), "usage", commit_interval_s=1)
    monkeypatch.setattr(app._consumer, "close", lambda: ended.append("consumer closed"))

    def run() -> None:
        """As Quix does at its end."""
        app._consumer.close()  # type: ignore[no-untyped-call]

    monkeypatch.setattr(app, "run", run)
    consuming = ConsumerMonitor("usage")
    monkeypatch.setattr(consuming, "stop", lambda: ended.append("questions ended"))

    quix_app.run(app, Settings(), consuming, [])

    assert ended[:2] == ["questions ended", "consumer closed"]
