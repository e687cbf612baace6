"""Quix Streams applications: configuration and the hooks that AudioText adds."""

import os
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from confluent_kafka import Message, TopicPartition
from quixstreams import Application
from quixstreams.internal_consumer import InternalConsumer
from quixstreams.internal_producer import InternalProducer
from quixstreams.kafka.configuration import ConnectionConfig

from core.settings import KafkaSettings, Settings
from redpanda.client import Config, connection_config, consumer_config, producer_config
from redpanda.commit_watchdog import CommitWatchdog
from redpanda.consumer_monitor import ConsumerMonitor

# Consumer settings that Quix sets itself, from its own arguments.
_SET_BY_QUIX = frozenset(
    {
        "group.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "partition.assignment.strategy",
    }
)

_FLUSH_S = 300.0  # timeout of a flush for which Quix gives none
_FLUSH_SLICE_S = 5.0  # a flush is split into waits of this length, with a heartbeat after each

CommitGuard = Callable[[], AbstractContextManager[None]]


class AudioTextApplication(Application):
    """Quix application of one consumer group, with heartbeat, metrics and commit watchdog.

    Quix has no hooks for these, so its consumer and producer are replaced by subclasses. The version of Quix is pinned;
    tests/redpanda/test_quix_app.py fails if a new version no longer uses these classes.
    """

    def __init__(
        self,
        settings: Settings,
        monitor: ConsumerMonitor,
        *,
        consumer_options: Mapping[str, str | int | bool] | None = None,
        producer_options: Mapping[str, str | int | bool] | None = None,
        **quix_options: Any,
    ) -> None:
        """Configures the application and connects to nothing.

        monitor: of the consumer group that its `stage` names. consumer_options, producer_options: librdkafka settings
        that replace those of `redpanda.client`. quix_options: further arguments of `Application`. Raises
        LogUnavailableError when no log is configured.
        """
        # Quix creates its consumer and its producer in its constructor, so these attributes are set before.
        self._settings = settings
        self._monitor = monitor
        self._watchdog: CommitWatchdog | None = None
        kafka, group = settings.kafka, monitor.stage
        super().__init__(
            broker_address=_broker_address(kafka),
            consumer_group=group,
            auto_offset_reset="earliest",
            # Offsets that the log has lost must stop a stateful service and not silently reset its state.
            auto_recover_from_source_offset_out_of_range=False,
            consumer_extra_config=_consumer_options(kafka, group) | dict(consumer_options or {}),
            producer_extra_config=_producer_options(kafka) | dict(producer_options or {}),
            loglevel=None,  # the command line configures logging
            **quix_options,
        )

    def run_monitored(self, topics: Collection[str]) -> None:
        """Runs the application until SIGTERM or SIGINT, in the main thread, and serves its metrics meanwhile.

        topics: those whose lag is measured (not the application's own changelogs). Raises ExporterError, and all errors
        of the application's work.
        """
        self._watchdog = CommitWatchdog.for_log(self._settings.kafka, self._monitor.heartbeat.beat)
        self._monitor.serve(self._settings.metrics, self._consumer, topics)
        try:
            self.run()
        finally:
            self._monitor.stop()
            self._watchdog.stop()

    def _commit_guard(self) -> AbstractContextManager[None]:
        return self._watchdog or nullcontext()

    def _get_internal_consumer(
        self, on_error: Any = None, extra_config_overrides: dict[str, Any] | None = None
    ) -> InternalConsumer:
        """Creates the consumer with the arguments that Quix gives to its own class."""
        return _MonitoredConsumer(
            self._monitor,
            self._commit_guard,
            broker_address=self._config.broker_address,
            consumer_group=self._config.consumer_group,
            auto_offset_reset=self._config.auto_offset_reset,
            auto_commit_enable=False,
            max_partition_buffer_size=self._config.max_partition_buffer_size,
            extra_config={**self._config.consumer_extra_config, **(extra_config_overrides or {})},
            on_error=on_error,
        )

    def _get_internal_producer(self, on_error: Any = None, transactional: bool | None = None) -> InternalProducer:
        """Creates the producer with the arguments that Quix gives to its own class."""
        transactional = self._config.exactly_once if transactional is None else transactional
        extra_config = dict(self._config.producer_extra_config)
        if not transactional:  # Quix adds the id if the application is transactional
            extra_config.pop("transactional.id", None)
        return _MonitoredProducer(
            self._monitor,
            self._commit_guard,
            broker_address=self._config.broker_address,
            extra_config=extra_config,
            flush_timeout=self._config.flush_timeout,
            on_error=on_error,
            transactional=transactional,
        )


class _MonitoredConsumer(InternalConsumer):
    """Consumer that reports each poll and runs commits under the watchdog."""

    def __init__(self, monitor: ConsumerMonitor, commit_guard: CommitGuard, **options: Any) -> None:
        super().__init__(**options)
        self._monitor = monitor
        self._commit_guard = commit_guard

    def poll(self, timeout: float | None = None) -> Message | None:
        """Polls; each iteration of Quix' loop does, also while it restores state."""
        message: Message | None = super().poll(timeout)
        self._monitor.record_poll(message)
        return message

    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        asynchronous: bool = True,
    ) -> list[TopicPartition] | None:
        """Commits offsets under the watchdog."""
        with self._commit_guard():
            return super().commit(message, offsets, asynchronous)

    def close(self) -> None:
        """Stops the monitor's requests, then closes.

        A request in flight when the consumer closes gets no reply: the monitor's thread would wait for its timeout.
        """
        self._monitor.stop()
        super().close()  # type: ignore[no-untyped-call]


class _MonitoredProducer(InternalProducer):
    """Producer that beats during long flushes and commits transactions under the watchdog."""

    def __init__(self, monitor: ConsumerMonitor, commit_guard: CommitGuard, **options: Any) -> None:
        super().__init__(**options)
        self._monitor = monitor
        self._commit_guard = commit_guard

    def flush(self, timeout: float | None = None) -> int:
        """Flushes, for minutes while the log is unavailable. The process is not hung, so the heartbeat continues."""
        deadline = time.monotonic() + (_FLUSH_S if timeout is None or timeout < 0 else timeout)
        while True:
            left = super().flush(min(_FLUSH_SLICE_S, max(0.0, deadline - time.monotonic())))
            self._monitor.heartbeat.beat()
            if not left or time.monotonic() >= deadline:
                return left

    def commit_transaction(self, positions: Any, group_metadata: Any, timeout: float | None = None) -> None:
        """Commits the transaction under the watchdog."""
        with self._commit_guard():
            super().commit_transaction(positions, group_metadata, timeout)


def application(
    settings: Settings, monitor: ConsumerMonitor, *, commit_interval_s: float, commit_every: int = 0
) -> AudioTextApplication:
    """Returns an application without state, and so without changelog topics.

    commit_interval_s: interval at which sinks are flushed and offsets are committed. commit_every: also commit after
    this many records; 0 does not count them.

    Raises LogUnavailableError when no log is configured. `audiotext topics apply` creates the topics, with the
    partitions and the retention of `redpanda/topics.yaml`; Quix would use its own defaults.
    """
    return AudioTextApplication(
        settings,
        monitor,
        auto_create_topics=False,
        use_changelog_topics=False,
        # Quix creates this directory in any case; without state it stays empty.
        state_dir=empty_state_dir(),
        commit_interval=commit_interval_s,
        commit_every=commit_every,
        # Quix checks the interval only between polls. A poll longer than half the interval would delay the commit of
        # earlier records by up to its own timeout.
        consumer_poll_timeout=min(commit_interval_s / 2, 1.0),
    )


def empty_state_dir() -> Path:
    """Returns a directory that only this user can use, below the directory for temporary files.

    Another user may have created the usual one first, so it is not used if it belongs to somebody else.
    """
    path = Path(tempfile.gettempdir(), f"audiotext-{os.getuid()}")
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077:
        return path
    return Path(tempfile.mkdtemp(prefix="audiotext-"))


def _broker_address(kafka: KafkaSettings) -> ConnectionConfig:
    """Returns address and credentials of the log in Quix' form. Raises LogUnavailableError."""
    return ConnectionConfig.from_librdkafka_dict(connection_config(kafka), ignore_extras=True)


def _consumer_options(kafka: KafkaSettings, group: str) -> Config:
    """Returns the consumer settings without those in `_broker_address` and those that Quix sets itself."""
    excluded = _SET_BY_QUIX | _broker_address(kafka).as_librdkafka_dict().keys()
    return {name: value for name, value in consumer_config(kafka, group).items() if name not in excluded}


def _producer_options(kafka: KafkaSettings) -> Config:
    """Returns the producer settings without those in `_broker_address`."""
    excluded = _broker_address(kafka).as_librdkafka_dict().keys()
    return {name: value for name, value in producer_config(kafka).items() if name not in excluded}
