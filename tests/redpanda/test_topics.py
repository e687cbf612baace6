"""Topics as data: the file, what it becomes in Kafka's words, and a real log brought into line with it."""

import pytest

from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import LogUnavailableError
from redpanda.topics import Difference
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings


def test_every_topic_is_in_the_file_and_nothing_else() -> None:
    """What does this test do? Compares the names in the code with those in topics.yaml, both ways.

    If it failed, a service would wait for a topic nobody creates, or a topic would be kept that nobody knows.
    """
    assert set(topics.load().topics) == set(Topic)


def test_an_embedded_log_is_bounded() -> None:
    """The embedded log lives in memory, so the audio topic must have a limit in bytes there, and not elsewhere."""
    media = topics.load().topics[Topic.CALL_MEDIA]
    assert int(media.config(embedded=True)["retention.bytes"]) > 0
    assert media.config(embedded=False)["retention.bytes"] == "-1"


def test_the_bill_is_kept_for_ever() -> None:
    """Ledger lines and dead letters must not be deleted by time, wherever the log runs."""
    for topic in (Topic.USAGE_RECORDED, Topic.DEAD_LETTERS):
        for embedded in (True, False):
            assert topics.load().topics[topic].config(embedded=embedded)["retention.ms"] == "-1"


def test_partitions_come_from_the_settings_first() -> None:
    """A number of partitions in the settings wins over the file, on any log."""
    assert topics.partitions(KafkaSettings(partitions=7), embedded=True) == 7
    assert topics.partitions(KafkaSettings(), embedded=True) == topics.load().embedded_partitions
    assert topics.partitions(KafkaSettings(), embedded=False) == topics.load().partitions


def test_apply_creates_what_is_missing_once(start_server: StartServer) -> None:
    """What does this test do? Applies the topics to an empty log, twice, and checks them.

    The first time all are created with partitions and configuration as written; the second time nothing happens. If
    it failed, a restart could fail on topics that are there, or run on topics with a broker's defaults.
    """
    kafka = kafka_settings(start_server("log"))
    assert [difference.setting for difference in topics.check(kafka, embedded=True)] == ["missing"] * len(Topic)
    assert set(topics.apply(kafka, embedded=True)) == set(Topic)
    assert topics.apply(kafka, embedded=True) == []
    assert topics.check(kafka, embedded=True) == []


def test_check_says_what_differs(start_server: StartServer) -> None:
    """A log made with other partitions and limits is reported setting by setting, in words a user can act on."""
    kafka = kafka_settings(start_server("log"))
    topics.apply(kafka, embedded=True)
    differences = topics.check(kafka, embedded=False)
    assert Difference("call.media", "partitions", "32", "2") in differences
    assert "call.media: retention.bytes is 67108864, should be -1" in [str(difference) for difference in differences]


def test_what_a_broker_does_not_tell_is_no_difference() -> None:
    """Brokers leave configurations out that they do not know; that must not look like a mistake."""
    found = topics.compare("call.media", {"retention.ms": "1", "segment.bytes": "2"}, {"retention.ms": "3"})
    assert found == [Difference("call.media", "retention.ms", "1", "3")]


def test_a_log_that_is_away_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack of librdkafka errors: one exception that says the log cannot be reached."""
    monkeypatch.setattr(topics, "_TIMEOUT_S", 0.3)
    with pytest.raises(LogUnavailableError, match="cannot be reached"):
        topics.apply(KafkaSettings(bootstrap_servers="127.0.0.1:1"), embedded=True)
