"""Metrics of a service that reads the log: records, lag and the heartbeat of its loop."""

import logging
import threading
from collections.abc import Collection, Mapping
from typing import Protocol

from confluent_kafka import KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry, ProcessCollector

from core import metrics, metrics_server
from core.heartbeat import HANG_TIMEOUT_S, Heartbeat
from core.settings import MetricsSettings

logger = logging.getLogger(__name__)

_LAG_INTERVAL_S = 5.0
_TIMEOUT_S = 1.0  # of one request to the log; `stop` may have to wait for it


class LagSource(Protocol):
    """Methods of a consumer that the lag needs. Confluent's and Quix' consumers allow them in any thread."""

    def assignment(self) -> list[TopicPartition]:
        """Returns the assigned partitions."""

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Returns the committed offsets."""

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float, cached: bool) -> tuple[int, int] | None:
        """Returns the earliest offset and the end offset."""


class ConsumerMonitor:
    """Metrics and heartbeat of one process of a consumer group.

    stage: name of the consumer group. registry: receives the metrics; other code may add its own to it.
    """

    def __init__(self, stage: str, registry: CollectorRegistry | None = None) -> None:
        self.stage = stage
        self.registry = CollectorRegistry() if registry is None else registry
        self.heartbeat = Heartbeat.from_environment()
        ProcessCollector(registry=self.registry)
        self.latency = metrics.LATENCY.on(self.registry).labels(stage)
        self._consumed = metrics.CONSUMED.on(self.registry)
        self._dead_letters = metrics.DEAD_LETTERS.on(self.registry)
        self._lag = metrics.LAG.on(self.registry)
        metrics.POLL_AGE.on(self.registry).labels(stage).set_function(lambda: self.heartbeat.age_s)
        self._stopping = threading.Event()
        self._lag_thread: threading.Thread | None = None

    def record_poll(self, message: Message | None) -> None:
        """Records an iteration of the loop and the message it received, if any. Takes a few microseconds."""
        self.heartbeat.beat()
        if message is not None and message.error() is None:
            self._consumed.labels(self.stage, message.topic() or "").inc()

    def record_dead_letter(self, error_class: str) -> None:
        """Counts a dead letter."""
        self._dead_letters.labels(self.stage, error_class).inc()

    def serve(self, settings: MetricsSettings, consumer: LagSource, topics: Collection[str]) -> None:
        """Serves the metrics if a port is configured, and updates the lag on these topics until `stop`.

        Raises ExporterError.
        """
        healthy = lambda: self.heartbeat.age_s < HANG_TIMEOUT_S  # noqa: E731
        if metrics_server.serve(settings, self.registry, healthy, self.health) is None:
            return
        self._lag_thread = threading.Thread(target=self._watch_lag, args=(consumer, topics), name="lag", daemon=True)
        self._lag_thread.start()

    def health(self) -> Mapping[str, object]:
        """The fields of `/healthz` besides `status`."""
        return {}

    def stop(self) -> None:
        """Stops using the consumer. Call it before the consumer is closed."""
        self._stopping.set()
        if self._lag_thread is not None:
            self._lag_thread.join(_TIMEOUT_S)

    def _watch_lag(self, consumer: LagSource, topics: Collection[str]) -> None:
        while not self._stopping.wait(_LAG_INTERVAL_S):
            try:
                self._update_lag(consumer, topics)
            except (KafkaException, RuntimeError) as error:  # the log is unavailable; the consumer is closed
                logger.debug("%s: cannot read the lag: %s", self.stage, error)

    def _update_lag(self, consumer: LagSource, topics: Collection[str]) -> None:
        """Raises KafkaException if the log does not answer, RuntimeError if the consumer is closed."""
        assigned = [partition for partition in consumer.assignment() if partition.topic in topics]
        lags: dict[tuple[str, int], int] = {}
        for committed in consumer.committed(assigned, _TIMEOUT_S) if assigned else ():
            bounds = consumer.get_watermark_offsets(committed, _TIMEOUT_S, False)
            if bounds is None or self._stopping.is_set():
                return
            lowest, end = bounds
            lags[committed.topic, committed.partition] = end - max(committed.offset, lowest)
        self._lag.clear()  # removes the values of revoked partitions
        for (topic, partition), lag in lags.items():
            self._lag.labels(self.stage, topic, str(partition)).set(max(0, lag))
