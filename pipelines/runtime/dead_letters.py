"""Dead letters: what a stage gave up on, read from the log, and given back to the stage."""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from pydantic import ValidationError

from core.settings import KafkaSettings
from redpanda.client import EventProducer, LogUnavailableError, consumer_config, producer_config
from schemas.events import CUT, AnyEvent, LetterReplayed, StageFailed, parse_event
from schemas.ids import uuid_of
from schemas.topics import Topic
from sinks.clickhouse.queries import CallStore

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A dead letter. replayed_at_ms: when somebody gave it back (ms since the epoch). healed: its stage has a result
    for that part by now."""

    letter: StageFailed
    replayed_at_ms: int | None = None
    healed: bool = False

    @property
    def open(self) -> bool:
        """Whether there is still something to do about it."""
        return self.replayed_at_ms is None and not self.healed

    @property
    def id(self) -> str:
        """What names it."""
        return self.letter.event_id


def dead_letters_of(events: Iterable[AnyEvent]) -> list[DeadLetterRecord]:
    """The letters that these events of the dead-letter topic tell of, oldest first. Pure.

    The same letter told twice is one: a crash between the letter and its offset writes it again.
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


def healed(letters: Sequence[DeadLetterRecord], store: CallStore) -> list[DeadLetterRecord]:
    """The letters, each with whether its call was healed: its stage has a result, from whatever attempt. Raises
    StoreUnavailableError."""
    names = {(one.letter.tenant, one.letter.call_id) for one in letters if one.open}
    results = store.find_results(sorted(names))
    return [
        replace(one, healed=(one.letter.tenant, one.letter.call_id, one.letter.part, one.letter.stage) in results)
        for one in letters
    ]


def is_replayable(letter: StageFailed) -> bool:
    """Whether the letter carries its record whole. What was no text, or too long, does not survive in one."""
    return letter.origin_topic != Topic.CALL_MEDIA and CUT not in letter.payload


def read_dead_letters(kafka: KafkaSettings) -> list[DeadLetterRecord]:
    """All letters on the log now. Joins no group and commits nothing. Raises LogUnavailableError."""
    config = consumer_config(kafka.model_copy(update={"instance_id": None}), f"dlq-{uuid.uuid4().hex}")
    consumer = Consumer(config)
    try:
        return dead_letters_of(_events(consumer))
    except KafkaException as error:
        raise LogUnavailableError(f"the dead letters cannot be read: {error}") from error
    finally:
        consumer.close()


def replay(kafka: KafkaSettings, letters: Iterable[DeadLetterRecord]) -> Iterator[DeadLetterRecord]:
    """Puts each letter's payload, which must be `whole`, back on its origin topic, notes that beside the letter, and
    yields it.

    The note comes second: a crash between leaves the letter open, and a payload that is there twice changes nothing,
    since every stage's effects are idempotent. Raises LogUnavailableError.
    """
    producer = Producer(producer_config(kafka))
    notes = EventProducer(kafka)
    for one in letters:
        letter = one.letter
        producer.produce(letter.origin_topic, key=letter.call_id, value=letter.payload)
        if producer.flush(_TIMEOUT_S) > 0:
            raise LogUnavailableError(f"the log does not acknowledge letter {one.id}; it stays open")
        now = time.time_ns() // 1_000_000
        note = LetterReplayed(
            event_id=uuid_of("letter.replayed", one.id),
            call_id=letter.call_id,
            tenant=letter.tenant,
            part=letter.part,
            occurred_at_ms=now,
            letter_id=one.id,
        )
        notes.send(Topic.DEAD_LETTERS, [note])
        yield DeadLetterRecord(letter, now)


def _events(consumer: Consumer) -> Iterator[AnyEvent]:
    """The events on the dead-letter topic; what is none is passed over."""
    topic = consumer.list_topics(Topic.DEAD_LETTERS, _TIMEOUT_S).topics[Topic.DEAD_LETTERS]
    if topic.error is not None:
        raise LogUnavailableError(f"there is no topic {Topic.DEAD_LETTERS}: `audiotext topics apply` creates it")
    ends: dict[int, int] = {}
    begin: list[TopicPartition] = []
    for number in topic.partitions:
        bounds = consumer.get_watermark_offsets(TopicPartition(Topic.DEAD_LETTERS, number), _TIMEOUT_S)
        if bounds is None:
            raise LogUnavailableError("the log does not say how many dead letters there are")
        low, end = bounds
        if low < end:
            ends[number] = end
            begin.append(TopicPartition(Topic.DEAD_LETTERS, number, low))
    consumer.assign(begin)
    while ends:
        message = consumer.poll(_TIMEOUT_S)
        if message is None:
            raise LogUnavailableError("the log stopped giving dead letters before their end")
        if message.error() is not None:
            raise LogUnavailableError(f"the dead letters cannot be read: {message.error().str()}")
        number, offset = message.partition() or 0, message.offset() or 0
        if offset + 1 >= ends.get(number, 0):
            ends.pop(number, None)
        try:
            yield parse_event(message.value() or b"")
        except ValidationError:
            continue
