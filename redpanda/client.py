"""Configuration of all Kafka clients of AudioText.

These values prevent losses: acks=all with an idempotent producer that never gives up (`message.timeout.ms` 0), and
consumers that start at the earliest record and commit only finished records.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from core.errors import UserError
from core.settings import KafkaSettings
from schemas.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

METADATA_REFRESH_S = 30
"""Interval at which a client reads the list of partitions."""

Config = dict[str, str | int | bool]


class LogUnavailableError(UserError):
    """The log cannot be reached, or no address is configured; the message names the fix."""


class EventTooLargeError(Exception):
    """An event is larger than the topic allows. A later attempt fails as well."""


def connection_config(kafka: KafkaSettings) -> Config:
    """Returns the settings that every client needs. Raises LogUnavailableError when no address is configured."""
    if not kafka.bootstrap_servers:
        raise LogUnavailableError(
            "no log is configured: set AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS, or use `audiotext up`, which embeds a log"
        )
    config: Config = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        # Reconnect fast: a broker on the same machine restarts within a second.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        # A hung broker keeps its connections open; only this timeout reveals a new leader. The default is 60 s.
        "socket.timeout.ms": 10_000,
        "topic.metadata.refresh.interval.ms": METADATA_REFRESH_S * 1000,
    }
    if kafka.sasl_mechanism:
        config["sasl.mechanism"] = kafka.sasl_mechanism
        config["sasl.username"] = kafka.sasl_username or ""
        config["sasl.password"] = kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""
    files = {
        "ssl.ca.location": kafka.ssl_ca_location,
        "ssl.certificate.location": kafka.ssl_certificate_location,
        "ssl.key.location": kafka.ssl_key_location,
    }
    config |= {name: str(path) for name, path in files.items() if path}
    if kafka.ssl_key_password:
        config["ssl.key.password"] = kafka.ssl_key_password.get_secret_value()
    return config


def is_reachable(kafka: KafkaSettings, timeout_s: float = 5.0) -> bool:
    """Returns True if the log answers a new client. Raises LogUnavailableError when no address is configured."""
    try:
        AdminClient(connection_config(kafka) | {"log_level": 0}).list_topics(timeout=timeout_s)
    except KafkaException:
        return False
    return True


def producer_config(kafka: KafkaSettings) -> Config:
    """Returns the settings of an idempotent producer that retries until the log has the record."""
    return connection_config(kafka) | {
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "linger.ms": 5,
        "compression.type": "none",  # mu-law does not compress; events are few
        "partitioner": "murmur2_random",  # as the Java clients, so that all languages choose the same partition
    }


def consumer_config(kafka: KafkaSettings, group: str) -> Config:
    """Returns the settings of a consumer whose offsets are committed explicitly."""
    config = connection_config(kafka) | {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": kafka.session_timeout_ms,
        "partition.assignment.strategy": "range",
        "max.poll.interval.ms": 300_000,
        "fetch.wait.max.ms": 500,
    }
    if kafka.instance_id:
        config["group.instance.id"] = f"{group}-{kafka.instance_id}"
    return config


class EventProducer:
    """Writes events to the log and waits for their acknowledgement. Thread-safe."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = Producer(producer_config(kafka))

    def send(self, topic: str, events: "Iterable[Event]", timeout_s: float = 30.0) -> None:
        """Produces the events, keyed by call id, and returns when the log has acknowledged all of them.

        Raises LogUnavailableError after `timeout_s`. The events may still arrive later, so the caller must be ready to
        send them again (consumers deduplicate by `event_id`). Raises EventTooLargeError.
        """
        errors: list[tuple[KafkaError, Event]] = []
        pending = 0

        def delivered(event: Event, error: KafkaError | None, _message: object) -> None:
            nonlocal pending
            pending -= 1
            if error is not None:
                errors.append((error, event))

        for event in events:
            pending += 1
            report = partial(delivered, event)
            try:
                self._producer.produce(topic, key=event.call_id, value=event.model_dump_json(), on_delivery=report)
            except KafkaException as error:
                raise _delivery_error(topic, error.args[0], event) from error
            except BufferError as error:
                raise LogUnavailableError(f"the producer's queue is full: {error}") from error
        self._producer.flush(timeout_s)
        for failure, event in errors:
            raise _delivery_error(topic, failure, event)
        if pending > 0:
            raise LogUnavailableError(f"the log did not acknowledge {pending} events within {timeout_s:g} s")

    async def send_async(self, topic: str, events: "Iterable[Event]", timeout_s: float = 30.0) -> None:
        """Runs `send` in a thread."""
        await asyncio.to_thread(self.send, topic, list(events), timeout_s)

    def close(self) -> None:
        """Waits up to 2 s for unacknowledged events."""
        self._producer.flush(2.0)


def _delivery_error(topic: str, error: KafkaError, event: Event) -> Exception:
    """Returns the exception for an event that the client or a broker rejected."""
    if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
        return LogUnavailableError(f"the log rejected an event: {error}")
    size = len(event.model_dump_json().encode())
    return EventTooLargeError(
        f"an event of {size:,} bytes about call {event.call_id} is larger than topic {topic} allows"
    )
