"""Topics as data: reads `topics.yaml`, creates what is missing, and tells where a cluster differs.

Nothing is ever deleted or shrunk here, and an existing topic's partitions are left alone: a call's place on the log
hangs on their number. More of them: redpanda.partition_expansion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from pydantic import BaseModel, ConfigDict, Field

from core.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config
from schemas.topics import Topic

_TIMEOUT_S = 10.0


class TopicSpec(BaseModel):
    """One topic. Times in ms (-1: for ever), sizes in bytes; `embedded_…` holds where the log is embedded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_ms: int = Field(ge=-1)
    retention_bytes: int = Field(-1, ge=-1)
    segment_bytes: int = Field(134_217_728, ge=1_048_576)
    max_message_bytes: int = Field(1_048_576, ge=1024)
    cleanup_policy: str = "delete"
    embedded_retention_ms: int | None = None
    embedded_retention_bytes: int | None = None

    def config(self, *, embedded: bool) -> dict[str, str]:
        """The topic's configuration in Kafka's words, every value explicit."""
        retention_ms, retention_bytes = self.retention_ms, self.retention_bytes
        if embedded:
            retention_ms = self.embedded_retention_ms or retention_ms
            retention_bytes = self.embedded_retention_bytes or retention_bytes
        return {
            "cleanup.policy": self.cleanup_policy,
            "retention.ms": str(retention_ms),
            "retention.bytes": str(retention_bytes),
            "segment.bytes": str(self.segment_bytes),
            "max.message.bytes": str(self.max_message_bytes),
        }


class TopicsFile(BaseModel):
    """The whole of topics.yaml. Every topic gets the same number of partitions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int = Field(ge=1)
    embedded_partitions: int = Field(ge=1)
    topics: dict[Topic, TopicSpec]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a cluster's topic is not as written. setting: "missing", "partitions" or a configuration's name."""

    topic: str
    setting: str
    wanted: str
    found: str

    def __str__(self) -> str:
        if self.setting == "missing":
            return f"{self.topic}: missing"
        return f"{self.topic}: {self.setting} is {self.found}, should be {self.wanted}"


@cache
def load() -> TopicsFile:
    """The topics as written. Raises pydantic.ValidationError if the file is wrong."""
    return TopicsFile.model_validate(yaml.safe_load(Path(__file__).with_name("topics.yaml").read_text()))


def partitions(kafka: KafkaSettings, *, embedded: bool) -> int:
    """How many partitions each topic gets."""
    written = load()
    return kafka.partitions or (written.embedded_partitions if embedded else written.partitions)


def apply(kafka: KafkaSettings, *, embedded: bool) -> list[Topic]:
    """Creates the topics that are missing and returns them. Raises LogUnavailableError."""
    admin = _admin(kafka)
    existing = _partitions_found(admin)
    missing = [
        NewTopic(
            topic.value,  # librdkafka's binding takes no subclass of str
            num_partitions=partitions(kafka, embedded=embedded),
            replication_factor=kafka.replication_factor,
            config=spec.config(embedded=embedded),
        )
        for topic, spec in load().topics.items()
        if topic not in existing
    ]
    if not missing:
        return []
    for name, future in admin.create_topics(missing, operation_timeout=_TIMEOUT_S).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody was quicker
                raise LogUnavailableError(f"topic {name} cannot be created: {error.args[0].str()}") from None
    return [Topic(new.topic) for new in missing]


def check(kafka: KafkaSettings, *, embedded: bool) -> list[Difference]:
    """Where the cluster differs from what is written; empty if nowhere. Raises LogUnavailableError."""
    admin = _admin(kafka)
    found = _partitions_found(admin)
    configs = _configs_found(admin, [topic for topic in load().topics if topic in found])
    wanted_partitions = partitions(kafka, embedded=embedded)
    differences = []
    for topic, spec in load().topics.items():
        if topic not in found:
            differences.append(Difference(topic, "missing", "there", "missing"))
            continue
        if found[topic] != wanted_partitions:
            differences.append(Difference(topic, "partitions", str(wanted_partitions), str(found[topic])))
        differences += compare(topic, spec.config(embedded=embedded), configs[topic])
    return differences


def compare(topic: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> list[Difference]:
    """Where a topic's configuration differs. What a broker does not tell of is not compared."""
    return [
        Difference(topic, name, value, found[name])
        for name, value in wanted.items()
        if name in found and found[name] != value
    ]


def _admin(kafka: KafkaSettings) -> AdminClient:
    # Its failures come as exceptions; what it writes to stderr besides (level 4: warnings) is for nobody.
    return AdminClient(connection_config(kafka) | {"log_level": 3})


def _partitions_found(admin: AdminClient) -> dict[str, int]:
    try:
        metadata = admin.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise LogUnavailableError(f"the log cannot be reached: {error.args[0].str()}") from None
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _configs_found(admin: AdminClient, topics: list[Topic]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, topic.value) for topic in topics]
    if not resources:
        return {}
    configs = {}
    for resource, future in admin.describe_configs(resources, request_timeout=_TIMEOUT_S).items():
        try:
            entries = future.result()
        except KafkaException as error:
            raise LogUnavailableError(f"topic {resource.name} cannot be read: {error.args[0].str()}") from None
        configs[resource.name] = {name: entry.value for name, entry in entries.items() if entry.value is not None}
    return configs
