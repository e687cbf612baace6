"""What is counted of every service that reads the log: records, lag, whether its loop comes round."""

import logging
import threading
from collections.abc import Collection, Mapping
from typing import Protocol

from confluent_kafka import KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry, ProcessCollector

from core import metrics, metrics_server
from core.heartbeat import HANGS_S, Heartbeat
from core.settings import MetricsSettings

log = logging.getLogger(__name__)

_LAG_EVERY_S = 5.0
_TIMEOUT_S = 1.0  # of one question to the log; who ends may have to wait for it


class LagSource(Protocol):
    """What is asked of a consumer: confluent-kafka's and Quix' both do, from any thread."""

    def assignment(self) -> list[TopicPartition]: ...
    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]: ...
    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float, cached: bool
    ) -> tuple[int, int] | None: ...


class ConsumerMonitor:
    """One consumer group's process. stage: its name. Registers itself in `registry`, which others add to."""

    def __init__(self, stage: str, registry: CollectorRegistry | None = None) -> None:
        self.stage = stage
        self.registry = CollectorRegistry() if registry is None else registry
        self.heartbeat = Heartbeat.from_environment()
        ProcessCollector(registry=self.registry)
        self.latency = metrics.LATENCY.on(self.registry).labels(stage)
        self._consumed = metrics.CONSUMED.on(self.registry)
        self._letters = metrics.DEAD_LETTERS.on(self.registry)
        self._lag = metrics.LAG.on(self.registry)
        metrics.POLL_AGE.on(self.registry).labels(stage).set_function(lambda: self.heartbeat.age_s)
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None

    def polled(self, message: Message | None) -> None:
        """The loop came round, and got this. Of a few microseconds."""
        self.heartbeat.beat()
        if message is not None and message.error() is None:
            self._consumed.labels(self.stage, message.topic() or "").inc()

    def record_dead_letter(self, error_class: str) -> None:
        """A dead letter was written."""
        self._letters.labels(self.stage, error_class).inc()

    def serve(self, settings: MetricsSettings, consumer: LagSource, topics: Collection[str]) -> None:
        """Serves the figures if a port is configured, the consumer's lag on these topics among them, until `stop`.
        Raises ExporterError."""
        if metrics_server.serve(settings, self.registry, lambda: self.heartbeat.age_s < HANGS_S, self.health) is None:
            return
        self._watch = threading.Thread(target=self._watch_lag, args=(consumer, topics), name="lag", daemon=True)
        self._watch.start()

    def health(self) -> Mapping[str, object]:
        """The fields of `/healthz` besides `status`."""
        return {}

    def stop(self) -> None:
        """Asks the consumer nothing any more: before it is closed."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.join(_TIMEOUT_S)

    def _watch_lag(self, consumer: LagSource, topics: Collection[str]) -> None:
        while not self._stopping.wait(_LAG_EVERY_S):
            try:
                self._look(consumer, topics)
            except (KafkaException, RuntimeError) as error:  # the log is away; the consumer is closed
                log.debug("%s: no lag: %s", self.stage, error)

    def _look(self, consumer: LagSource, topics: Collection[str]) -> None:
        """Raises KafkaException if the log does not say, RuntimeError if the consumer is closed."""
        places = [place for place in consumer.assignment() if place.topic in topics]
        lags: dict[tuple[str, int], int] = {}
        for place in consumer.committed(places, _TIMEOUT_S) if places else ():
            bounds = consumer.get_watermark_offsets(place, _TIMEOUT_S, False)
            if bounds is None or self._stopping.is_set():
                return
            lowest, end = bounds
            lags[place.topic, place.partition] = end - max(place.offset, lowest)
        self._lag.clear()  # of partitions that went
        for (topic, partition), lag in lags.items():
            self._lag.labels(self.stage, topic, str(partition)).set(max(0, lag))
