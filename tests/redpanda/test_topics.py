"""Tests of the topic definitions: the file, its translation into Kafka settings, and a real log."""

import pytest

from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import LogUnavailableError
from redpanda.topics import Difference
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings


def test_every_topic_is_in_the_file_and_nothing_else() -> None:
    """Compares the names in the code with those in topics.yaml, in both directions.

    A failure means that a service waits for a topic that is never created, or that an unused topic is created.
    """
    assert set(topics.load().topics) == set(Topic)


def test_an_embedded_log_is_bounded() -> None:
    """Reads the audio topic's limit: the embedded log is in memory and needs one; other logs must have none."""
    media = topics.load().topics[Topic.CALL_MEDIA]
    assert int(media.config(embedded=True)["retention.bytes"]) > 0
    assert media.config(embedded=False)["retention.bytes"] == "-1"


def test_ledger_and_dead_letters_have_no_time_limit() -> None:
    """Reads the retention of both topics: no kind of log may delete them by age."""
    for topic in (Topic.USAGE_RECORDED, Topic.DEAD_LETTERS):
        for embedded in (True, False):
            assert topics.load().topics[topic].config(embedded=embedded)["retention.ms"] == "-1"


def test_setting_overrides_the_number_of_partitions() -> None:
    """Sets a number of partitions: it must replace that of the file, for any log."""
    assert topics.partitions(KafkaSettings(partitions=7), embedded=True) == 7
    assert topics.partitions(KafkaSettings(), embedded=True) == topics.load().embedded_partitions
    assert topics.partitions(KafkaSettings(), embedded=False) == topics.load().partitions


def test_apply_creates_missing_topics_once(start_server: StartServer) -> None:
    """Applies the topics to an empty log, twice, and checks them.

    The first call must create all topics as defined; the second call must do nothing. A failure means that a restart
    can fail on existing topics, or that topics get the broker's defaults.
    """
    kafka = kafka_settings(start_server("log"))
    assert [difference.setting for difference in topics.check(kafka, embedded=True)] == ["missing"] * len(Topic)
    assert set(topics.apply(kafka, embedded=True)) == set(Topic)
    assert topics.apply(kafka, embedded=True) == []
    assert topics.check(kafka, embedded=True) == []


def test_check_reports_each_difference(start_server: StartServer) -> None:
    """Checks a log with other partitions and limits: the report must name each setting with both values."""
    kafka = kafka_settings(start_server("log"))
    topics.apply(kafka, embedded=True)
    differences = topics.check(kafka, embedded=False)
    assert Difference("call.media", "partitions", "32", "2") in differences
    assert "call.media: retention.bytes is 67108864, should be -1" in [str(difference) for difference in differences]


def test_settings_missing_at_the_broker_are_ignored() -> None:
    """Compares with a broker that omits a setting, as brokers do for unknown ones: it must not be a difference."""
    found = topics.compare("call.media", {"retention.ms": "1", "segment.bytes": "2"}, {"retention.ms": "3"})
    assert found == [Difference("call.media", "retention.ms", "1", "3")]


def test_unreachable_log_gives_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Applies the topics to a closed port: one exception must say that the log cannot be reached."""
    monkeypatch.setattr(topics, "_TIMEOUT_S", 0.3)
    with pytest.raises(LogUnavailableError, match="cannot be reached"):
        topics.apply(KafkaSettings(bootstrap_servers="127.0.0.1:1"), embedded=True)


def _other(topic: str, setting: str, found: str) -> topics.Difference:
    return topics.Difference(topic, setting, "32", found)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([], []),
        ([_other("call.media", "missing", "missing")], ["`audiotext topics apply` creates"]),
        ([_other(topic, "partitions", "64") for topic in topics.load().topics], ["AUDIOTEXT_KAFKA__PARTITIONS=64"]),
        ([_other("call.media", "partitions", "64")], ["the same number of partitions"]),
        ([_other("call.media", "retention.ms", "1")], ["your broker's tool"]),
        (
            [_other("call.media", "missing", "missing"), _other("call.events", "segment.bytes", "1")],
            ["`audiotext topics apply` creates", "your broker's tool"],
        ),
    ],
    ids=["none", "missing", "grown", "one grown", "retention", "two kinds"],
)
def test_the_advice_fits_the_differences(differences: list[topics.Difference], expected: list[str]) -> None:
    """Gives differences: the advice names a fix for each kind of them, and no other fix."""
    steps = topics.advice(differences)
    assert len(steps) == len(expected)
    assert all(part in step for part, step in zip(expected, steps, strict=True))
