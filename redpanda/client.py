"""Configuration of every Kafka client AudioText makes, in one place.

The values that keep the promise "nothing lost": acks=all with an idempotent producer that never gives a record up
(`message.timeout.ms` 0), consumers that start at the earliest record and commit only what is done.
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

METADATA_S = 30
"""How soon a client notices partitions that were added."""

Config = dict[str, str | int | bool]


class LogUnavailableError(UserError):
    """The log cannot be reached, or no address of one is configured; the message says what to do."""


class EventTooLargeError(Exception):
    """An event is larger than the log takes: it will not take it later either."""


def connection_config(kafka: KafkaSettings) -> Config:
    """What every client needs to connect. Raises LogUnavailableError when no address is configured."""
    if not kafka.bootstrap_servers:
        raise LogUnavailableError(
            "no log is configured: set AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS, or use `audiotext up`, which embeds one"
        )
    config: Config = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        # Reconnect fast: a restarted broker on the same machine is back in a second.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        # A broker that hangs keeps its connections: only this tells that another one leads now. By default 60 s.
        "socket.timeout.ms": 10_000,
        "topic.metadata.refresh.interval.ms": METADATA_S * 1000,
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


def answers(kafka: KafkaSettings, timeout_s: float = 5.0) -> bool:
    """Whether the log answers a client that is new to it. Raises LogUnavailableError when no address is configured."""
    try:
        AdminClient(connection_config(kafka) | {"log_level": 0}).list_topics(timeout=timeout_s)
    except KafkaException:
        return False
    return True


def producer_config(kafka: KafkaSettings) -> Config:
    """An idempotent producer that keeps trying until the log has the record."""
    return connection_config(kafka) | {
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "linger.ms": 5,
        "compression.type": "none",  # mu-law does not compress; events are few
        "partitioner": "murmur2_random",  # the Java clients' partitioner: other languages agree on a call's place
    }


def consumer_config(kafka: KafkaSettings, group: str) -> Config:
    """A consumer of a group whose offsets are committed by hand."""
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
    """Puts events on the log and tells when it has them. Thread-safe."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = Producer(producer_config(kafka))

    def send(self, topic: str, events: "Iterable[Event]", timeout_s: float = 30.0) -> None:
        """Produces the events, keyed by call id, and returns once the log has acknowledged all of them.

        Raises LogUnavailableError if it has not within `timeout_s`; they may still arrive later, so the caller must
        be prepared to send them again (consumers deduplicate by `event_id`). Raises EventTooLargeError.
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
                raise _refusal(topic, error.args[0], event) from error
            except BufferError as error:
                raise LogUnavailableError(f"the log does not take events: {error}") from error
        self._producer.flush(timeout_s)
        for refused, event in errors:
            raise _refusal(topic, refused, event)
        if pending > 0:
            raise LogUnavailableError(f"the log has not acknowledged {pending} events within {timeout_s:g} s")

    async def send_async(self, topic: str, events: "Iterable[Event]", timeout_s: float = 30.0) -> None:
        """`send` in a thread."""
        await asyncio.to_thread(self.send, topic, list(events), timeout_s)

    def close(self) -> None:
        """Waits a moment for what is still on its way."""
        self._producer.flush(2.0)


def _refusal(topic: str, error: KafkaError, event: Event) -> Exception:
    """What to raise for an event that the client or a broker does not take."""
    if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
        return LogUnavailableError(f"the log refused an event: {error}")
    size = len(event.model_dump_json().encode())
    return EventTooLargeError(
        f"an event of {size:,} bytes about call {event.call_id} is larger than the log takes on {topic}"
    )
