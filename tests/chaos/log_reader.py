"""Everything that is on the log, read beside the consumers that matter."""

import time
from collections import defaultdict
from dataclasses import dataclass, field

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from core.settings import KafkaSettings
from redpanda.client import connection_config
from schemas.events import AnyEvent, parse_event
from schemas.media import MediaRecord, from_headers
from schemas.topics import Topic

_TIMEOUT_S = 5.0

# Who reads what: at the end each of them must have read all of it.
GROUPS = {
    "recorder": (Topic.CALL_MEDIA,),
    "transcribe": (Topic.RECORDING_READY, Topic.TRANSCRIBE_RETRY),
    "summarize": (Topic.TRANSCRIPT_READY, Topic.SUMMARIZE_RETRY),
    "embed": (Topic.TRANSCRIPT_READY, Topic.EMBED_RETRY),
    "usage": (Topic.USAGE_RECORDED,),
    "analytics": (
        Topic.CALL_EVENTS,
        Topic.RECORDING_READY,
        Topic.TRANSCRIPT_READY,
        Topic.SUMMARY_READY,
        Topic.EMBEDDING_READY,
        Topic.DEAD_LETTERS,
    ),
}


@dataclass
class Tape:
    """What was read so far. media: call id → its records of call.media with their offsets, in log order. events: per
    topic, in the order read, repeats included."""

    media: dict[str, list[tuple[int, MediaRecord]]] = field(default_factory=lambda: defaultdict(list))
    events: dict[Topic, list[AnyEvent]] = field(default_factory=lambda: defaultdict(list))

    def of(self, topic: Topic) -> dict[str, AnyEvent]:
        """The topic's distinct events by id; of several tellings the first."""
        found: dict[str, AnyEvent] = {}
        for event in self.events[topic]:
            found.setdefault(event.event_id, event)
        return found


class TapeReader:
    """Reads the whole log, a stretch at a time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.tape = Tape()
        connection = connection_config(kafka) | {"log_level": 0}
        self._admin = AdminClient(connection)
        self._consumer = Consumer(
            connection
            | {
                "group.id": "chaos-tape",  # demanded, never joined
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # Each question for a partition's end waits for the fetch that is under way.
                "fetch.wait.max.ms": 10,
            }
        )
        self._places = self._all_places()
        self._consumer.assign([TopicPartition(topic, number, 0) for topic, number in self._places])
        self._next = dict.fromkeys(self._places, 0)

    def read_on(self, timeout_s: float) -> bool:
        """Reads to the end as it is now; False if the log did not give all of it within the time."""
        deadline = time.monotonic() + timeout_s
        try:
            behind = {place: end for place in self._places if (end := self._end(place)) > self._next[place]}
        except KafkaException:
            return False
        while behind:
            if time.monotonic() > deadline:
                return False
            message = self._consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            self._keep(Topic(place[0]), message, offset)
            self._next[place] = offset + 1
            if self._next[place] >= behind.get(place, offset + 2):
                del behind[place]
        return True

    def lag(self) -> dict[str, int]:
        """Records that each group still has to read, where there are any. Raises KafkaException."""
        lags: dict[str, int] = {}
        ends = {place: self._end(place) for place in self._places}
        for group, topics in GROUPS.items():
            places = [place for place in self._places if place[0] in topics]
            asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*place) for place in places])
            (answer,) = self._admin.list_consumer_group_offsets([asked], request_timeout=_TIMEOUT_S).values()
            done = {(at.topic, at.partition): at.offset for at in answer.result().topic_partitions}
            lag = sum(ends[place] - max(done.get(place, 0), 0) for place in places)
            if lag:
                lags[group] = lag
        return lags

    def close(self) -> None:
        """Lets the log go."""
        self._consumer.close()

    def _keep(self, topic: Topic, message: Message, offset: int) -> None:
        if topic is not Topic.CALL_MEDIA:
            self.tape.events[topic].append(parse_event(message.value() or b""))
            return
        record = from_headers(message.key() or b"", message.headers(), message.value())
        self.tape.media[record.call_id].append((offset, record))

    def _all_places(self) -> list[tuple[str, int]]:
        metadata = self._admin.list_topics(timeout=_TIMEOUT_S)
        return [(topic, number) for topic in Topic for number in metadata.topics[topic].partitions]

    def _end(self, place: tuple[str, int]) -> int:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT_S)
        return int(end)
