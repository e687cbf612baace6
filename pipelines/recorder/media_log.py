"""call.media outside of Quix: putting the recorder's own records on it, and reading a stretch of it again."""

import logging
import threading
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from audiotext.settings import KafkaSettings
from redpanda.client import LogUnavailableError, connection_config, producer_config
from schemas.media import MediaError, MediaRecord, from_headers, to_headers
from schemas.topics import Topic

log = logging.getLogger(__name__)

_READ_TIMEOUT_S = 30.0


class DecisionWriter:
    """Puts `close` and `recorded` records beside the audio they are about. Thread-safe."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = Producer(producer_config(kafka))
        self._stopping = threading.Event()
        # The client tells of deliveries only when asked to.
        self._thread = threading.Thread(target=self._serve, name="decisions", daemon=True)
        self._thread.start()

    def put(self, record: MediaRecord, partition: int) -> None:
        """Hands the record over and returns; it is sent until the log has it. If the process ends before, whoever
        comes next decides the same again."""
        self._producer.produce(
            Topic.CALL_MEDIA,
            key=record.call_id,
            value=record.payload,
            headers=to_headers(record),
            partition=partition,
            on_delivery=_complain,
        )

    def close(self) -> None:
        """Waits a moment for what is still on its way."""
        self._stopping.set()
        self._producer.flush(1.0)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.5)


def _complain(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        log.error("the log refused a decision about %s: %s", message.key(), error)


def read_call(
    kafka: KafkaSettings, partition: int, call_id: str, first_offset: int, end_offset: int
) -> Iterator[tuple[int, MediaRecord]]:
    """The call's records with first_offset ≤ offset < end_offset, in log order, each with its offset.

    Reads everything in between, whose ever it is: a partition knows no calls. Raises LogUnavailableError.
    """
    consumer = Consumer(
        connection_config(kafka)
        | {
            # A group is demanded by the client but never joined: no subscription, no commit.
            "group.id": "recorder-rebuild",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        lowest, _ = consumer.get_watermark_offsets(TopicPartition(Topic.CALL_MEDIA, partition), timeout=_READ_TIMEOUT_S)
        if lowest > first_offset:
            log.error(
                "call %s: the log has lost offsets %d to %d of partition %d, and so has this machine's disk; "
                "the audio in them is gone. Raise call.media's retention",
                call_id, first_offset, lowest - 1, partition,
            )  # fmt: skip
        consumer.assign([TopicPartition(Topic.CALL_MEDIA, partition, max(first_offset, lowest))])
        while True:
            message = consumer.poll(_READ_TIMEOUT_S)
            if message is None:
                raise LogUnavailableError(f"the log does not answer: partition {partition} of {Topic.CALL_MEDIA}")
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return
                raise LogUnavailableError(f"the log cannot be read: {error}")
            offset = message.offset()
            if offset >= end_offset:
                return
            key = message.key()
            if key is not None and key == call_id.encode():
                try:
                    yield offset, from_headers(key, message.headers(), message.value())
                except MediaError:
                    continue  # it was passed over when it came, too
            if offset == end_offset - 1:
                return
    finally:
        consumer.close()
