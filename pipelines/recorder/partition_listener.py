"""A Quix application that tells when partitions come and go.

Quix has no callbacks for that, so four of its methods are extended here and nowhere else; the version is pinned, and
tests/pipelines/recorder/test_takeover.py fails when they are not called any more.
"""

import logging
from collections.abc import Iterator
from typing import Any, Protocol

from confluent_kafka import KafkaException, TopicPartition
from quixstreams import Application
from quixstreams.state.manager import DEFAULT_STATE_STORE_NAME
from quixstreams.state.rocksdb.partition import RocksDBStorePartition

from pipelines.recorder.media_topic import OffsetGapDetector
from pipelines.recorder.partition_lifecycle import Partitions
from pipelines.recorder.state_codec import Call, decode, key_of
from pipelines.recorder.state_machine import CallState

log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0
_ASK_S = 5.0  # a question that can wait: reading does too, meanwhile


class PartitionListener(Protocol):
    """Whoever wants to know. See pipelines.recorder.partition_lifecycle.Ownership."""

    def assigned(self, partition: int) -> None: ...
    def revoked(self, partition: int) -> None: ...
    def tick(self, partitions: Partitions) -> None: ...


class PartitionedApplication(Application):
    """Of one stateful topic. A partition that is assigned is paused until the owner resumes it.

    Partitions of which the log has lost records that were not read yet are read from the earliest there is: what is
    lost is lost, and standing still would lose more. It is complained of.
    """

    def __init__(
        self, *, topic_name: str, owner: PartitionListener, continuity: OffsetGapDetector, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._topic_name = topic_name
        self._owner = owner
        self._continuity = continuity

    def states(self, partition: int, after: Call | None = None) -> Iterator[tuple[Call, CallState]]:
        """Every call's state, as of the last commit, by key; those after one only. Not to be kept: it holds the store
        open."""
        store = self._state_manager.get_store(self._topic_name, DEFAULT_STATE_STORE_NAME)
        stored = store.partitions[partition]
        assert isinstance(stored, RocksDBStorePartition)  # Quix' default, which the application does not change
        return decode(stored.iter_items(lower_bound=key_of(after) + b"\0" if after else b""))

    def begins(self, partition: int) -> int | None:
        """The earliest offset the log has of it; None if it does not say now."""
        try:
            found = self._consumer.get_watermark_offsets(TopicPartition(self._topic_name, partition), _ASK_S)
        except KafkaException:
            return None
        return None if found is None else found[0]

    def pause(self, partition: int) -> None:
        """Reads no records of it from now on."""
        self._consumer.pause([TopicPartition(self._topic_name, partition)])

    def resume(self, partition: int) -> None:
        """Reads it again."""
        self._consumer.resume([TopicPartition(self._topic_name, partition)])

    def _on_assign(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        ours = self._ours(topic_partitions)
        if ours:
            # Of partitions that were just added the client knows those it reads, but not yet their changelog's.
            self._consumer.list_topics(timeout=_TIMEOUT_S)
            self._begin_where_the_log_begins(ours)
        super()._on_assign(_, topic_partitions)
        for place in ours:
            self.pause(place.partition)
            self._owner.assigned(place.partition)

    def _on_revoke(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        try:
            super()._on_revoke(_, topic_partitions)
        finally:
            self._gone(topic_partitions)

    def _on_lost(self, _: Any, topic_partitions: list[TopicPartition]) -> None:
        super()._on_lost(_, topic_partitions)
        self._gone(topic_partitions)

    def _process_message(self, dataframe_composed: Any) -> None:
        # Between two records, and only when no state is being restored.
        self._owner.tick(self)
        super()._process_message(dataframe_composed)  # type: ignore[no-untyped-call]  # Quix does not say

    def _gone(self, topic_partitions: list[TopicPartition]) -> None:
        for place in self._ours(topic_partitions):
            self._owner.revoked(place.partition)

    def _ours(self, topic_partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [place for place in topic_partitions if place.topic == self._topic_name]

    def _begin_where_the_log_begins(self, places: list[TopicPartition]) -> None:
        """Quix refuses, for ever, a partition whose committed offset the log does not have any more."""
        for place in self._consumer.committed(places, timeout=_TIMEOUT_S):
            lowest, _ = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
            if place.error is not None or place.offset < 0:
                continue  # nothing was ever committed
            self._continuity.expect(place.partition, place.offset)
            if place.offset < lowest:
                log.error(
                    "%s[%d] begins at offset %d, but only what lies before %d is recorded; going on from there",
                    self._topic_name, place.partition, lowest, place.offset,
                )  # fmt: skip
                start = TopicPartition(self._topic_name, place.partition, lowest)
                self._consumer.commit(offsets=[start], asynchronous=False)
