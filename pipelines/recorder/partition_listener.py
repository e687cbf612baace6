"""The recorder's Quix application, which reports assigned and revoked partitions.

Quix has no callbacks for that, so this module extends four of its methods. The version of Quix is pinned, and
tests/pipelines/recorder/test_takeover.py fails if Quix no longer calls them.
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
_SHORT_TIMEOUT_S = 5.0  # for a request that can be repeated later, because reading waits meanwhile


class PartitionListener(Protocol):
    """Receiver of partition changes; see pipelines.recorder.partition_lifecycle.PartitionLifecycle."""

    def assigned(self, partition: int) -> None:
        """Handles a new partition, which is paused."""

    def revoked(self, partition: int) -> None:
        """Handles the loss of a partition."""

    def tick(self, partitions: Partitions) -> None:
        """Runs between two records."""


class PartitionedApplication(AudioTextApplication):
    """Application of one stateful topic. An assigned partition stays paused until the listener resumes it.

    If the log has lost records that were not read yet, the partition is read from its earliest record, with an error in
    the log: waiting would lose more.
    """

    def __init__(
        self,
        settings: Settings,
        monitor: ConsumerMonitor,
        *,
        topic_name: str,
        owner: PartitionListener,
        continuity: OffsetGapDetector,
        **options: Any,
    ) -> None:
        super().__init__(settings, monitor, **options)
        self._topic_name = topic_name
        self._owner = owner
        self._continuity = continuity

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        """Yields the state of every call as of the last commit, in key order; only those after `after` if it is given.

        The iterator holds the store open, so the caller must not keep it.
        """
        store = self._state_manager.get_store(self._topic_name, DEFAULT_STATE_STORE_NAME)
        stored = store.partitions[partition]
        assert isinstance(stored, RocksDBStorePartition)  # Quix' default, which the application does not change
        return decode(stored.iter_items(lower_bound=key_of(after) + b"\0" if after else b""))

    def begins(self, partition: int) -> int | None:
        """Returns the partition's earliest offset on the log, or None if the log does not answer."""
        try:
            found = self._consumer.get_watermark_offsets(TopicPartition(self._topic_name, partition), _SHORT_TIMEOUT_S)
        except KafkaException:
            return None
        return None if found is None else found[0]

    def pause(self, partition: int) -> None:
        """Stops reading the partition."""
        self._consumer.pause([TopicPartition(self._topic_name, partition)])

    def resume(self, partition: int) -> None:
        """Reads the partition again."""
        self._consumer.resume([TopicPartition(self._topic_name, partition)])

    def _on_assign(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        ours = self._ours(topic_partitions)
        if ours:
            # The client knows a partition that was just added, but not yet the changelog's partition for it.
            self._consumer.list_topics(timeout=_TIMEOUT_S)
            self._skip_lost_records(ours)
        super()._on_assign(_, topic_partitions)
        for place in ours:
            self.pause(place.partition)
            self._owner.assigned(place.partition)

    def _on_revoke(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        try:
            super()._on_revoke(_, topic_partitions)
        finally:
            self._notify_revoked(topic_partitions)

    def _on_lost(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        super()._on_lost(_, topic_partitions)
        self._notify_revoked(topic_partitions)

    def _process_message(self, dataframe_composed: Any) -> None:
        # Quix calls this method between two records, and not while it restores state.
        self._owner.tick(self)
        super()._process_message(dataframe_composed)  # type: ignore[no-untyped-call]  # Quix has no type for it

    def _notify_revoked(self, topic_partitions: list[TopicPartition]) -> None:
        for place in self._ours(topic_partitions):
            self._owner.revoked(place.partition)

    def _ours(self, topic_partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [place for place in topic_partitions if place.topic == self._topic_name]

    def _skip_lost_records(self, places: list[TopicPartition]) -> None:
        """Commits the log's earliest offset where it lies after the committed one; Quix would reject the partition."""
        for place in self._consumer.committed(places, timeout=_TIMEOUT_S):
            lowest, _ = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
            if place.error is not None or place.offset < 0:
                continue  # nothing was ever committed
            self._continuity.expect(place.partition, place.offset)
            if place.offset < lowest:
                logger.error(
                    "%s[%d] begins at offset %d, but only the records before %d were read; continues at the former",
                    self._topic_name, place.partition, lowest, place.offset,
                )  # fmt: skip
                start = TopicPartition(self._topic_name, place.partition, lowest)
                self._consumer.commit(offsets=[start], asynchronous=False)
