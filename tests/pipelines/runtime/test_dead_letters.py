"""Dead letters: read from the log, returned to their stage, and marked as replayed."""

import uuid

from core.settings import KafkaSettings, RetrySettings
from pipelines.runtime.dead_letters import (
    DeadLetterRecord,
    dead_letters_of,
    discard_audio,
    is_replayable,
    read_dead_letters,
    replay,
)
from pipelines.runtime.errors import PermanentError
from redpanda.client import EventProducer
from schemas.events import LetterReplayed
from schemas.media import RecordType
from schemas.topics import Topic
from tests.support.consumer_loop_lab import Lab
from tests.support.dead_letters import letter
from tests.support.twilio_messages import records_on_log


def note(name: str, at_ms: int) -> LetterReplayed:
    """Returns the event that a dead letter was replayed."""
    return LetterReplayed(event_id=f"n-{name}", call_id="c", tenant="t", occurred_at_ms=at_ms, letter_id=name)


def test_dead_letters_are_distinguished_by_id() -> None:
    """Reads dead letters and replay events in any order, some twice.

    Each must appear once, the oldest first, and be closed if it was replayed. A duplicate would be replayed twice; one
    that another's event closed would be forgotten.
    """
    a, b = letter("a", 5), letter("b", 3)

    assert dead_letters_of([note("a", 9), a, b, a, note("x", 1), note("a", 11)]) == [
        DeadLetterRecord(b),
        DeadLetterRecord(a, 9),
    ]


def test_a_record_that_is_not_text_is_not_replayable() -> None:
    """Reads dead letters of audio and of bytes that are not UTF-8. Replaying them would write invalid data."""
    assert is_replayable(letter("a"))
    assert not is_replayable(letter("a", payload="\ufffdPNG"))
    assert not is_replayable(letter("a", origin=Topic.CALL_MEDIA))


async def test_a_replayed_letter_is_done_and_closed(kafka: KafkaSettings) -> None:
    """Fails a call permanently, removes the cause, and replays the dead letter twice.

    The stage must get the same input and succeed, and the dead letter must be closed. A new failure must make a new
    dead letter, so that the first replay does not hide it.
    """
    lab = Lab(kafka, partitions=1)
    call = f"{lab.name}-bad"
    mended = False
    lab.behave = lambda got, attempt: None if mended else PermanentError("401")

    def mine() -> list[DeadLetterRecord]:
        return [one for one in read_dead_letters(kafka) if one.letter.call_id == call]

    lab.send(call)
    async with lab.running(RetrySettings()):
        await lab.events(Topic.DEAD_LETTERS, 1, call)
        [first] = mine()
        assert first.replayed_at_ms is None
        [closed] = replay(kafka, [first])
        await lab.events(Topic.DEAD_LETTERS, 3, call)
        assert {one.id: one.replayed_at_ms for one in mine()}[first.id] == closed.replayed_at_ms
        [second] = [one for one in mine() if one.replayed_at_ms is None]
        assert second.letter.payload == first.letter.payload

        mended = True
        assert len(list(replay(kafka, [second, second]))) == 2
        results = await lab.events(lab.results, 2)
    assert len({event.event_id for event in results}) == 1
    assert [one for one in mine() if one.replayed_at_ms is None] == []


def test_replay_makes_the_recorder_try_again(kafka: KafkaSettings) -> None:
    """Replays a dead letter of the recorder, and discards the audio of another one.

    The partition of the call's audio must have a `retry` and a `recorded` record of these parts, and the first dead
    letter must be closed.
    """
    call = f"CA{uuid.uuid4().hex}"
    fields = {"event_id": call, "call_id": call, "stage": "recorder", "part": 2, "origin_topic": Topic.CALL_MEDIA}
    kept = letter(call).model_copy(update=fields)
    assert is_replayable(kept)
    [closed] = replay(kafka, [DeadLetterRecord(kept)])
    discard_audio(kafka, [kept])
    assert closed.replayed_at_ms is not None
    records = records_on_log(kafka, call, lambda found: len(found) == 2)
    assert [(record.type, record.tenant, record.part) for record in records] == [
        (RecordType.RETRY, "t", 2),
        (RecordType.RECORDED, "t", 2),
    ]


def test_invalid_records_do_not_hide_dead_letters(kafka: KafkaSettings) -> None:
    """Puts invalid records on the dead-letter topic. They must be skipped."""
    name = uuid.uuid4().hex
    producer = EventProducer(kafka)
    producer._producer.produce(Topic.DEAD_LETTERS, key="k", value=b"\xff")
    producer.send(Topic.DEAD_LETTERS, [letter(name)])

    assert name in [one.id for one in read_dead_letters(kafka)]
