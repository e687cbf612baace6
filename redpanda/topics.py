"""Topic definitions: reads `topics.yaml`, creates missing topics and reports differences of a cluster.

This module never deletes or shrinks anything. It never changes the number of partitions of an existing topic, because
the partition of a call depends on it; docs/operations.md explains how to add partitions.
"""

from collections.abc import Mapping, Sequence
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
    """One topic. Times in ms (-1 = unlimited), sizes in bytes; `embedded_…` applies to the embedded log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_ms: int = Field(ge=-1)
    retention_bytes: int = Field(-1, ge=-1)
    segment_bytes: int = Field(134_217_728, ge=1_048_576)
    max_message_bytes: int = Field(1_048_576, ge=1024)
    cleanup_policy: str = "delete"
    embedded_retention_ms: int | None = None
    embedded_retention_bytes: int | None = None

    def config(self, *, embedded: bool) -> dict[str, str]:
        """Returns the topic's configuration with Kafka's names, every value explicit."""
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
    """Content of topics.yaml. Every topic gets the same number of partitions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int = Field(ge=1)
    embedded_partitions: int = Field(ge=1)
    topics: dict[Topic, TopicSpec]


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between a cluster's topic and its definition.

    setting: "missing", "partitions" or the name of a Kafka setting.
    """

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
    """Returns the topic definitions. Raises pydantic.ValidationError if the file is invalid."""
    return TopicsFile.model_validate(yaml.safe_load(Path(__file__).with_name("topics.yaml").read_text()))


def partitions(kafka: KafkaSettings, *, embedded: bool) -> int:
    """Returns the number of partitions of each topic."""
    defined = load()
    return kafka.partitions or (defined.embedded_partitions if embedded else defined.partitions)


def apply(kafka: KafkaSettings, *, embedded: bool) -> list[Topic]:
    """Creates the missing topics and returns them. Raises LogUnavailableError."""
    admin = _admin(kafka)
    existing = _partitions_found(admin)
    missing = [
        NewTopic(
            topic.value,  # librdkafka's binding does not accept a subclass of str
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
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process created it
                raise LogUnavailableError(f"topic {name} cannot be created: {error.args[0].str()}") from None
    return [Topic(new.topic) for new in missing]


def check(kafka: KafkaSettings, *, embedded: bool) -> list[Difference]:
    """Returns the differences between the cluster and the definitions. Raises LogUnavailableError."""
    admin = _admin(kafka)
    found = _partitions_found(admin)
    configs = _configs_found(admin, [topic for topic in load().topics if topic in found])
    wanted_partitions = partitions(kafka, embedded=embedded)
    differences = []
    for topic, spec in load().topics.items():
        if topic not in found:
            differences.append(Difference(topic, "missing", "present", "missing"))
            continue
        if found[topic] != wanted_partitions:
            differences.append(Difference(topic, "partitions", str(wanted_partitions), str(found[topic])))
        differences += compare(topic, spec.config(embedded=embedded), configs[topic])
    return differences


def advice(differences: Sequence[Difference]) -> list[str]:
    """Returns the steps that remove these differences, one sentence each."""
    steps = []
    if any(one.setting == "missing" for one in differences):
        steps.append("`audiotext topics apply` creates the missing topics.")
    counted = [one for one in differences if one.setting == "partitions"]
    numbers = {one.found for one in counted}
    if len(numbers) == 1 and len(counted) + sum(one.setting == "missing" for one in differences) == len(load().topics):
        steps.append(
            f"Every topic has {numbers.pop()} partitions. If you added them on purpose, set "
            f"AUDIOTEXT_KAFKA__PARTITIONS={counted[0].found} for every service."
        )
    elif counted:
        steps.append(
            "Every topic needs the same number of partitions: see docs/operations.md, Adding partitions. The number "
            "can never be lowered."
        )
    if any(one.setting not in ("missing", "partitions") for one in differences):
        steps.append(
            "`apply` does not change the settings of existing topics, because that affects their data: change them "
            "with your broker's tool, or change redpanda/topics.yaml."
        )
    return steps


def compare(topic: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> list[Difference]:
    """Returns the differences of one topic's configuration. Settings that the broker does not return are ignored."""
    return [
        Difference(topic, name, value, found[name])
        for name, value in wanted.items()
        if name in found and found[name] != value
    ]


def _admin(kafka: KafkaSettings) -> AdminClient:
    # Failures raise exceptions; the warnings (level 4) that librdkafka would write to stderr are suppressed.
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
