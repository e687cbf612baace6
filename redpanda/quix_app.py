"""The one place that configures Quix Streams applications."""

import os
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from confluent_kafka import Message
from quixstreams import Application
from quixstreams.kafka.configuration import ConnectionConfig

from core.settings import KafkaSettings, Settings
from redpanda.client import Config, connection_config, consumer_config, producer_config
from redpanda.commit_watchdog import CommitWatchdog
from redpanda.consumer_monitor import ConsumerMonitor

# What Quix sets itself, from its own arguments.
_OWNED_BY_QUIX = frozenset(
    {
        "group.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "partition.assignment.strategy",
    }
)

_FLUSH_S = 300.0  # how long Quix waits for its records to be delivered where it says nothing of its own
_FLUSH_SLICE_S = 5.0


def application(
    settings: Settings,
    group: str,
    *,
    commit_interval_s: float,
    commit_every: int = 0,
    state_dir: Path | None = None,
) -> Application:
    """A Quix application of a consumer group. `run()` it in the main thread.

    commit_interval_s: how often sinks are flushed, state is checkpointed and offsets are committed.
    commit_every: do so after this many records, should they come faster; 0 does not count them.
    state_dir: where RocksDB lies; None for an application without state, which then has no changelog topics either.

    Raises LogUnavailableError when no log is configured. Topics must exist: `audiotext topics apply` creates them
    with the partitions and retention of `redpanda/topics.yaml`, which Quix' own defaults would not have.
    """
    return Application(
        broker_address=broker_address(settings.kafka),
        consumer_group=group,
        auto_offset_reset="earliest",
        # A hole in the log must stop a stateful service, not silently reset what it knows.
        auto_recover_from_source_offset_out_of_range=False,
        # Only changelog topics may be created; without state there are none.
        auto_create_topics=state_dir is not None,
        use_changelog_topics=state_dir is not None,
        # Quix makes this directory in any case; without state it stays empty.
        state_dir=state_dir or Path(tempfile.gettempdir(), f"audiotext-{os.getuid()}"),
        commit_interval=commit_interval_s,
        commit_every=commit_every,
        # The checkpoint is looked at only between polls: a poll that waits longer than half the interval would delay
        # the commit of what came before it by up to its own timeout.
        consumer_poll_timeout=min(commit_interval_s / 2, 1.0),
        consumer_extra_config=consumer_extras(settings.kafka, group),
        producer_extra_config=producer_extras(settings.kafka),
        loglevel=None,  # logging is configured by the command line
    )


def run(app: Application, settings: Settings, consuming: ConsumerMonitor, topics: Collection[str]) -> None:
    """Runs the application until SIGTERM or SIGINT, its figures served and its loop watched.

    topics: which it reads, without those it made itself. Raises ExporterError, and whatever its work raises.
    """
    consumer, producer = app._consumer, app._producer
    poll, close, flush = consumer.poll, consumer.close, producer.flush
    patience = CommitWatchdog.with_log(settings.kafka, consuming.heartbeat.beat)

    # Every round of Quix' loop polls, also while it restores its state; it has no hook of its own for that.
    def polled(timeout: float | None = None) -> Message | None:
        message: Message | None = poll(timeout)
        consuming.polled(message)
        return message

    # And this is where it waits for a log that is away, for minutes: that is no reason to be taken for dead.
    def flushed(timeout: float | None = None, **more: bool) -> int:
        deadline = time.monotonic() + (_FLUSH_S if timeout is None or timeout < 0 else timeout)
        while True:
            left = flush(min(_FLUSH_SLICE_S, max(0.0, deadline - time.monotonic())), **more)
            consuming.heartbeat.beat()
            if not left or time.monotonic() >= deadline:
                return left

    def patiently(commit: Callable[..., Any]) -> Callable[..., Any]:
        def committed(*args: Any, **more: Any) -> Any:
            with patience:
                return commit(*args, **more)

        return committed

    # A question that is under way when the consumer is closed is never answered: its asker waits for its time-out.
    def closed() -> None:
        consuming.stop()
        close()  # type: ignore[no-untyped-call]

    consumer.poll = polled  # type: ignore[method-assign]
    consumer.close = closed  # type: ignore[method-assign]
    producer.flush = flushed  # type: ignore[method-assign]
    consumer.commit = patiently(consumer.commit)  # type: ignore[method-assign]
    producer.commit_transaction = patiently(producer.commit_transaction)  # type: ignore[method-assign]
    consuming.serve(settings.metrics, consumer, topics)
    try:
        app.run()
    finally:
        consuming.stop()
        patience.stop()


def broker_address(kafka: KafkaSettings) -> ConnectionConfig:
    """Where the log is and how to sign in there, as Quix takes it. Raises LogUnavailableError."""
    return ConnectionConfig.from_librdkafka_dict(connection_config(kafka), ignore_extras=True)


def consumer_extras(kafka: KafkaSettings, group: str) -> Config:
    """What Quix' consumer gets besides `broker_address` and what Quix sets itself. Raises LogUnavailableError."""
    owned = _OWNED_BY_QUIX | broker_address(kafka).as_librdkafka_dict().keys()
    return {name: value for name, value in consumer_config(kafka, group).items() if name not in owned}


def producer_extras(kafka: KafkaSettings) -> Config:
    """Likewise for Quix' producer. Raises LogUnavailableError."""
    owned = broker_address(kafka).as_librdkafka_dict().keys()
    return {name: value for name, value in producer_config(kafka).items() if name not in owned}
