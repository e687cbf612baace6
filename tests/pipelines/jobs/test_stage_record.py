"""What a live stage tells again is what it told, whatever became of it in between."""

import asyncio
import wave
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.settings import PricingSettings, S3Settings
from pipelines.jobs.stage_record import IdempotentStage
from pipelines.runtime.stage import Output
from pipelines.transcribe.handler import TranscribeHandler
from redpanda.client import EventProducer
from schemas.events import RecordingReady, TranscriptReady, UsageRecorded, parse_event
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.conftest import StartServer
from tests.support.fake_engine import WAV, FakeEngine
from tests.support.ids import new_call
from tests.support.pipeline_events import recording
from tests.support.running_server import RunningServer
from tests.support.service_process import offsets, own_log_and_environment, records, running
from tests.support.waiting import wait_until


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


def stage(
    objects: ObjectStore, engine: FakeEngine, pricing: PricingSettings | None = None
) -> IdempotentStage[RecordingReady]:
    """A live transcriber with this engine."""
    return IdempotentStage("transcribe", TranscribeHandler(engine, objects, pricing or PricingSettings()), objects)


def as_told(outputs: Sequence[Output]) -> list[tuple[str, str]]:
    """Topics and events, to the byte."""
    return [(one.topic, one.event.model_dump_json()) for one in outputs]


async def test_another_model_tells_what_the_first_one_told(objects: ObjectStore) -> None:
    """A call is transcribed and charged, and its recording is told again: to a transcriber that was upgraded meanwhile
    and has another model, at another price. It must ask no engine and tell the same to the byte, or the customer has
    two lines for one call."""
    event = recording(objects, new_call(), WAV, 60_000)
    before, after = FakeEngine(), FakeEngine("large")
    told = as_told(await stage(objects, before)(event))
    dearer = PricingSettings.model_validate({"price_per_unit": "7"})
    assert as_told(await stage(objects, after, dearer)(event)) == told
    assert (len(before.jobs), len(after.jobs)) == (1, 0)


async def test_of_two_that_are_at_it_one_tells(objects: ObjectStore) -> None:
    """Two processes with different models work on one call at the same time, as after a rebalance in the middle of an
    upgrade: both have done the work, but both tell what the first one told."""
    event = recording(objects, new_call(), WAV, 60_000)
    old, new = FakeEngine(), FakeEngine("large")
    one, other = await asyncio.gather(stage(objects, old)(event), stage(objects, new)(event))
    assert (len(old.jobs), len(new.jobs)) == (1, 1)
    assert as_told(one) == as_told(other)


async def test_parts_of_a_call_are_told_each(objects: ObjectStore) -> None:
    """Two parts of a call have the same audio, for instance none: each has its own events."""
    first = recording(objects, new_call(), WAV, 1_000)
    second = first.model_copy(update={"part": 2, "event_id": f"{first.event_id}-2"})
    handler = stage(objects, FakeEngine())
    assert {one.event.part for event in (first, second) for one in await handler(event)} == {1, 2}


async def test_each_event_of_a_part_has_its_own_outputs(objects: ObjectStore) -> None:
    """Two events of one part, with other audio: each has its own transcript, and a redelivery of each gets that one.
    Keyed by the part alone, the second event would be answered with the transcript of the first."""
    first = recording(objects, new_call(), WAV, 1_000)
    audio = objects.put(f"{first.audio.key}.2", WAV + b"2", "audio/wav")
    second = first.model_copy(update={"event_id": f"{first.event_id}-2", "audio": audio})
    handler = stage(objects, FakeEngine())
    before = [as_told(await handler(event)) for event in (first, second)]
    assert before[0] != before[1]
    assert [as_told(await handler(event)) for event in (first, second)] == before


async def test_what_failed_is_not_told(objects: ObjectStore) -> None:
    """The engine fails, and then does not: the failure leaves nothing behind that would be told."""

    class Failing(FakeEngine):
        async def transcribe(self, job: object) -> None:  # type: ignore[override]
            raise RuntimeError("the engine fails")

    event = recording(objects, new_call(), WAV, 1_000)
    with pytest.raises(RuntimeError):
        await stage(objects, Failing())(event)
    ready, _ = await stage(objects, FakeEngine())(event)
    assert isinstance(ready.event, TranscriptReady)


def test_a_service_with_another_model_charges_nothing_twice(
    start_server: StartServer, object_server: RunningServer, objects: ObjectStore, model_cache: Path, tmp_path: Path
) -> None:
    """The transcriber as it runs in production does a call, is killed, and comes back with another model; the call's
    recording is told once more, as a recorder does that was killed. There must be one transcript and one ledger line,
    each told twice."""
    kafka, env = own_log_and_environment(start_server("log"), object_server, model_cache)
    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(2 * 2 * 8_000 * 2))
    event = recording(objects, new_call(), (tmp_path / "short.wav").read_bytes(), 2_000)
    producer = EventProducer(kafka)
    with offsets(kafka, "transcribe", Topic.RECORDING_READY) as done:
        for number, model in enumerate(("base", "tiny.en"), start=1):
            with running("pipelines.transcribe.handler", env | {"AUDIOTEXT_STT__MODEL": model}, tmp_path / "log"):
                producer.send(Topic.RECORDING_READY, [event])
                wait_until(lambda number=number: done() == number, f"the call is done with {model}", 90)  # type: ignore[misc]
    told = [parse_event(value) for value in records(kafka, Topic.TRANSCRIPT_READY, 2)]
    lines = [parse_event(value) for value in records(kafka, Topic.USAGE_RECORDED, 2)]
    assert told[0] == told[1]
    assert isinstance(told[0], TranscriptReady)
    assert told[0].model == "base"
    assert lines[0] == lines[1]
    assert isinstance(lines[0], UsageRecorded)
    assert lines[0].units > 0
