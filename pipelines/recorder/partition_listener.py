"""The recorder's Quix application, which notifies a listener about assigned and revoked partitions.

Quix has no callbacks for this, so four of its methods are extended here and nowhere else. The version of Quix is
pinned, and tests/pipelines/recorder/test_takeover.py fails if Quix no longer invokes these methods.
"""

import logging
from collections.abc import Iterator
from typing import Any, Protocol

from confluent_kafka import KafkaException, TopicPartition
from quixstreams.state.manager import DEFAULT_STATE_STORE_NAME
from quixstreams.state.rocksdb.partition import RocksDBStorePartition

from core.settings import Settings
from pipelines.recorder.media_topic import OffsetGapDetector
from pipelines.recorder.partition_lifecycle import Partitions
from pipelines.recorder.state_codec import Call, decode, key_of
from pipelines.recorder.state_machine import CallState
from redpanda.consumer_monitor import ConsumerMonitor
from redpanda.quix_app import AudioTextApplication

logger = logging.getLogger(__name__)

_TIMEOUT_S = 30.0
_REQUEST_TIMEOUT_S = 5.0  # for a request that is not urgent: it blocks reading


class PartitionListener(Protocol):
    """Receiver of changes. See pipelines.recorder.partition_lifecycle.PartitionLifecycle."""

    def assigned(self, partition: int) -> None:
        """Records that the partition is assigned to this process, and paused."""
        ...

    def revoked(self, partition: int) -> None:
        """Records that the partition is revoked."""
        ...

    def tick(self, partitions: Partitions) -> None:
        """Does pending work between two records."""
        ...


class PartitionedApplication(AudioTextApplication):
    """Application with one stateful topic. A newly assigned partition is paused until the listener resumes it.

    If the log has lost unread records of a partition, the application logs an error and continues at the earliest
    record: to stop would lose more.
    """

    def __init__(
        self,
        settings: Settings,
        monitor: ConsumerMonitor,
        *,
        topic_name: str,
        listener: PartitionListener,
        gap_detector: OffsetGapDetector,
        **options: Any,
    ) -> None:
        """Creates the application.

        Args:
            settings: Settings of the process.
            monitor: Metrics and heartbeat of the process.
            topic_name: The stateful topic.
            listener: Receiver of assigned and revoked partitions.
            gap_detector: Detects records that the log has lost.
            **options: Further arguments of AudioTextApplication.
        """
        super().__init__(settings, monitor, **options)
        self._topic_name = topic_name
        self._listener = listener
        self._gap_detector = gap_detector

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        """Yields the state of every call at the last commit, ordered by key. after: yields only later keys.

        Consume the iterator at once: it keeps the store open.
        """
        store = self._state_manager.get_store(self._topic_name, DEFAULT_STATE_STORE_NAME)
        stored = store.partitions[partition]
        assert isinstance(stored, RocksDBStorePartition)  # Quix' default, which the application does not change
        return decode(stored.iter_items(lower_bound=key_of(after) + b"\0" if after else b""))

    def first_offset(self, partition: int) -> int | None:
        """Returns the earliest offset on the log; None if the log does not report it now."""
        try:
            found = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic_name, partition), _REQUEST_TIMEOUT_S
            )
        except KafkaException:
            return None
        return None if found is None else found[0]

    def pause(self, partition: int) -> None:
        """Stops reading the partition."""
        self._consumer.pause([TopicPartition(self._topic_name, partition)])

    def resume(self, partition: int) -> None:
        """Continues reading the partition."""
        self._consumer.resume([TopicPartition(self._topic_name, partition)])

    def _on_assign(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        ours = self._ours(topic_partitions)
        if ours:
            # After partitions were added, the client may not know the new partitions of the changelog yet.
            self._consumer.list_topics(timeout=_TIMEOUT_S)
            self._skip_lost_records(ours)
        super()._on_assign(_, topic_partitions)
        for place in ours:
            self.pause(place.partition)
            self._listener.assigned(place.partition)

    def _on_revoke(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        try:
            super()._on_revoke(_, topic_partitions)
        finally:
            self._notify_revoked(topic_partitions)

    def _on_lost(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        super()._on_lost(_, topic_partitions)
        self._notify_revoked(topic_partitions)

    def _process_message(self, dataframe_composed: Any) -> None:
        # Between two records, and only when no state is being restored.
        self._listener.tick(self)
        super()._process_message(dataframe_composed)  # type: ignore[no-untyped-call]  # Quix does not say

    def _notify_revoked(self, topic_partitions: list[TopicPartition]) -> None:
        for place in self._ours(topic_partitions):
            self._listener.revoked(place.partition)

    def _ours(self, topic_partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [place for place in topic_partitions if place.topic == self._topic_name]

    def _skip_lost_records(self, places: list[TopicPartition]) -> None:
        """Moves committed offsets that the log no longer has. Quix would refuse such partitions without end."""
        for place in self._consumer.committed(places, timeout=_TIMEOUT_S):
            lowest, _ = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
            if place.error is not None or place.offset < 0:
                continue  # no offset was ever committed
            self._gap_detector.expect(place.partition, place.offset)
            if place.offset < lowest:
                logger.error(
                    "%s[%d] begins at offset %d, but only the records before offset %d are recorded; continuing there",
                    self._topic_name, place.partition, lowest, place.offset,
                )  # fmt: skip
                start = TopicPartition(self._topic_name, place.partition, lowest)
                self._consumer.commit(offsets=[start], asynchronous=False)
