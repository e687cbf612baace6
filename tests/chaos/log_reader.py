"""Copy of everything on the log, read independently of the consumers under test."""

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
class LogCopy:
    """Records read so far.

    media: records of call.media with their offsets by call id, in the order of the log. events: per topic in the order
    of reading, with repetitions.
    """

    media: dict[str, list[tuple[int, MediaRecord]]] = field(default_factory=lambda: defaultdict(list))
    events: dict[Topic, list[AnyEvent]] = field(default_factory=lambda: defaultdict(list))

    def of(self, topic: Topic) -> dict[str, AnyEvent]:
        """Returns the distinct events of the topic by id: the first of each."""
        found: dict[str, AnyEvent] = {}
        for event in self.events[topic]:
            found.setdefault(event.event_id, event)
        return found


class LogReader:
    """Reads the whole log, one section after the other."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.tape = LogCopy()
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
        """Reads to the current end. Returns False if this takes too long."""
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
        """Returns the number of unread records by group, without zeros. Raises KafkaException."""
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
        """Closes the connection."""
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
