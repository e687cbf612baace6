"""Dead letters: reads the jobs that stages gave up on from the log, and returns them to their stages."""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from pydantic import ValidationError

from core.settings import KafkaSettings
from pipelines.stages import RECORDER
from redpanda.client import EventProducer, LogUnavailableError, consumer_config, producer_config
from schemas.events import CUT, AnyEvent, LetterReplayed, StageFailed, parse_event
from schemas.ids import uuid_of
from schemas.media import MediaRecord, RecordType, to_headers
from schemas.replays import failed_parts
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A dead letter and its state.

    Attributes:
        letter: The event that reports the failure.
        replayed_at_ms: Time at which it was replayed (ms since the epoch); None if it was not replayed.
        healed: True if its stage has a result for that part now.
    """

    letter: StageFailed
    replayed_at_ms: int | None = None
    healed: bool = False

    @property
    def open(self) -> bool:
        """True if it needs an action: it was neither replayed nor healed."""
        return self.replayed_at_ms is None and not self.healed

    @property
    def id(self) -> str:
        """Id of the dead letter: that of its event."""
        return self.letter.event_id


def dead_letters_of(events: Iterable[AnyEvent]) -> list[DeadLetterRecord]:
    """Returns the dead letters in these events of the dead-letter topic, oldest first. Pure.

    Two events with the same id are one dead letter: a crash between the dead letter and the commit of its offset
    writes it again.
    """
    letters: dict[str, StageFailed] = {}
    replayed: dict[str, int] = {}
    for event in events:
        if isinstance(event, StageFailed):
            letters.setdefault(event.event_id, event)
        elif isinstance(event, LetterReplayed):
            replayed.setdefault(event.letter_id, event.occurred_at_ms)
    found = [DeadLetterRecord(letter, replayed.get(letter_id)) for letter_id, letter in letters.items()]
    return sorted(found, key=lambda one: (one.letter.occurred_at_ms, one.id))


def healed(letters: Sequence[DeadLetterRecord], calls: CallStore, replays: ReplayStore) -> list[DeadLetterRecord]:
    """Marks the dead letters whose stage has a result by now, from any attempt.

    A job of a replay has its result when the same replay has finished all parts of the job.

    Raises:
        StoreUnavailableError: ClickHouse does not reply.
    """
    jobs = {one.id: [part.event_id for part in failed_parts(one.letter)] for one in letters if one.open}
    names = {(one.letter.tenant, one.letter.call_id) for one in letters if one.open and not jobs[one.id]}
    results = calls.find_results(sorted(names))
    finished = replays.find_finished(sorted({part for parts in jobs.values() for part in parts}))

    def has_result(one: DeadLetterRecord) -> bool:
        if parts := jobs.get(one.id):
            return finished.issuperset(parts)
        letter = one.letter
        return (letter.tenant, letter.call_id, letter.part, letter.stage) in results

    return [replace(one, healed=has_result(one)) for one in letters]


def is_replayable(letter: StageFailed) -> bool:
    """True if the dead letter contains its complete record, or if the recorder still has the audio.

    Records that are not text, or too long, are cut.
    """
    return letter.stage == RECORDER.group or (letter.origin_topic != Topic.CALL_MEDIA and CUT not in letter.payload)


def read_dead_letters(kafka: KafkaSettings) -> list[DeadLetterRecord]:
    """Returns all dead letters on the log. Joins no consumer group and commits no offsets.

    Raises:
        LogUnavailableError: The log cannot be read.
    """
    config = consumer_config(kafka.model_copy(update={"instance_id": None}), f"dlq-{uuid.uuid4().hex}")
    consumer = Consumer(config)
    try:
        return dead_letters_of(_events(consumer))
    except KafkaException as error:
        raise LogUnavailableError(f"the dead letters cannot be read: {error}") from error
    finally:
        consumer.close()


def replay(kafka: KafkaSettings, dead_letters: Iterable[DeadLetterRecord]) -> Iterator[DeadLetterRecord]:
    """Writes the payload of each dead letter to its origin topic, records the replay, and yields the dead letter.

    The payload is written first. A crash before the replay is recorded leaves the dead letter open; a payload that is
    written twice is harmless, because every effect of a stage is idempotent.

    Args:
        kafka: Settings of the log.
        dead_letters: Dead letters that are replayable (`is_replayable`).

    Raises:
        LogUnavailableError: The log does not acknowledge a record.
    """
    producer = Producer(producer_config(kafka))
    events = EventProducer(kafka)
    for one in dead_letters:
        letter = one.letter
        if letter.stage == RECORDER.group:
            _produce_to_recorder(producer, letter, RecordType.RETRY)
        else:
            producer.produce(letter.origin_topic, key=letter.call_id, value=letter.payload)
        if producer.flush(_TIMEOUT_S) > 0:
            raise LogUnavailableError(
                f"the log does not acknowledge dead letter {one.id}, so it stays open: check the broker and try again"
            )
        now = time.time_ns() // 1_000_000
        replayed = LetterReplayed(
            event_id=uuid_of("letter.replayed", one.id),
            call_id=letter.call_id,
            tenant=letter.tenant,
            part=letter.part,
            occurred_at_ms=now,
            letter_id=one.id,
        )
        events.send(Topic.DEAD_LETTERS, [replayed])
        yield DeadLetterRecord(letter, now)


def discard_audio(kafka: KafkaSettings, letters: Iterable[StageFailed]) -> None:
    """Makes the recorder delete the audio that it keeps for these dead letters of its own.

    Raises:
        LogUnavailableError: The log does not acknowledge a record.
    """
    producer = Producer(producer_config(kafka))
    for letter in letters:
        _produce_to_recorder(producer, letter, RecordType.RECORDED)
    if producer.flush(_TIMEOUT_S) > 0:
        raise LogUnavailableError("the log does not acknowledge that the recorder deletes the audio of a call")


def _produce_to_recorder(producer: Producer, letter: StageFailed, kind: RecordType) -> None:
    """Queues a record about the part of a dead letter of the recorder, for the partition of its audio.

    kind: `retry` makes the recorder try again; `recorded` makes it delete the audio in its spool.
    """
    record = MediaRecord(
        type=kind,
        call_id=letter.call_id,
        tenant=letter.tenant,
        carrier="",
        stream_id="",
        at_ms=time.time_ns() // 1_000_000,
        part=letter.part,
    )
    producer.produce(
        Topic.CALL_MEDIA,
        key=record.call_id,
        value=record.payload,
        headers=to_headers(record),
        partition=letter.origin_partition,
    )


def _events(consumer: Consumer) -> Iterator[AnyEvent]:
    """Yields the events on the dead-letter topic. Skips invalid ones."""
    topic = consumer.list_topics(Topic.DEAD_LETTERS, _TIMEOUT_S).topics[Topic.DEAD_LETTERS]
    if topic.error is not None:
        raise LogUnavailableError(f"the topic {Topic.DEAD_LETTERS} is missing: run `audiotext topics apply`")
    ends: dict[int, int] = {}
    begin: list[TopicPartition] = []
    for number in topic.partitions:
        bounds = consumer.get_watermark_offsets(TopicPartition(Topic.DEAD_LETTERS, number), _TIMEOUT_S)
        if bounds is None:
            raise LogUnavailableError("the log does not report the offsets of the dead letters: try again")
        low, end = bounds
        if low < end:
            ends[number] = end
            begin.append(TopicPartition(Topic.DEAD_LETTERS, number, low))
    consumer.assign(begin)
    while ends:
        message = consumer.poll(_TIMEOUT_S)
        if message is None:
            raise LogUnavailableError("the log stopped sending dead letters before the last one: try again")
        if message.error() is not None:
            raise LogUnavailableError(f"the dead letters cannot be read: {message.error().str()}")
        number, offset = message.partition() or 0, message.offset() or 0
        if offset + 1 >= ends.get(number, 0):
            ends.pop(number, None)
        try:
            yield parse_event(message.value() or b"")
        except ValidationError:
            continue
