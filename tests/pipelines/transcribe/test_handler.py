"""The transcriber: one result and one ledger line for a recording, however often it is told of."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.settings import PricingSettings, S3Settings
from pipelines.billing.charge_policy import ChargePolicy
from pipelines.billing.pricing import Charge
from pipelines.providers.base import Transcription, TranscriptionJob
from pipelines.runtime.errors import PermanentError, RetryableError
from pipelines.transcribe.handler import TranscribeHandler
from pipelines.transcribe.metrics import TranscriptMetrics
from redpanda.client import EventProducer
from schemas.artifacts import Omitted, Transcript
from schemas.events import RecordingReady, TranscriptReady, UsageRecorded, parse_event
from schemas.topics import Topic
from schemas.usage_keys import UsageKey, UsageKind
from sinks.object_store import ObjectStore, ObjectStoreError
from tests.conftest import StartServer, s3_settings
from tests.support.demo_calls import demo_call, word_error_rate
from tests.support.fake_engine import WAV, FakeEngine
from tests.support.ids import new_call
from tests.support.pipeline_events import STARTED_MS, recording
from tests.support.running_server import RunningServer
from tests.support.service_process import offsets, own_log_and_environment, records, running
from tests.support.waiting import wait_until


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


async def handled(handler: TranscribeHandler, event: RecordingReady) -> tuple[TranscriptReady, UsageRecorded]:
    """The handler's two outputs, each on its topic."""
    ready, usage = await handler(event)
    assert (ready.topic, usage.topic) == (Topic.TRANSCRIPT_READY, Topic.USAGE_RECORDED)
    assert isinstance(ready.event, TranscriptReady)
    assert isinstance(usage.event, UsageRecorded)
    return ready.event, usage.event


async def test_a_recording_becomes_a_transcript_and_a_ledger_line(objects: ObjectStore) -> None:
    """A two-minute recording: the engine gets the very bytes, the transcript lies where the event says with the
    digest it says, and the line has 100 units, cost, price and the day the call began."""
    engine = FakeEngine()
    call_id = new_call()

    ready, usage = await handled(
        TranscribeHandler(engine, objects, PricingSettings()), recording(objects, call_id, WAV, 120_000)
    )

    assert engine.heard == [WAV]
    assert engine.jobs[0].key == ready.transcript_id
    assert engine.jobs[0].speakers == ("inbound", "outbound")
    stored = Transcript.model_validate_json(objects.get_verified(ready.transcript))
    assert stored.segments[0].text == "Hello."
    assert (ready.call_id, ready.tenant, ready.segments, ready.language) == (call_id, "acme", 1, "en")
    assert usage.key == f"transcription_{ready.transcript_id}"
    assert (usage.units, usage.duration_ms, usage.kind, usage.currency) == (100, 120_000, "transcription", "USD")
    assert (usage.price, usage.provider_cost) == (Decimal("0.0200"), Decimal("0.000100"))
    assert (usage.call_started_at_ms, usage.occurred_at_ms) == (STARTED_MS, STARTED_MS + 120_000)


async def test_told_twice_is_done_once(objects: ObjectStore) -> None:
    """The same event is delivered to two processes, one after the other, as after a crash between storing the result
    and committing. The engine must run once, and both must tell the same: the same ids, and a ledger line that is the
    same to the byte, or the customer pays twice."""
    event = recording(objects, new_call(), WAV, 60_000)
    first, second = FakeEngine(), FakeEngine()

    ready, usage = await handled(TranscribeHandler(first, objects, PricingSettings()), event)
    again, usage_again = await handled(TranscribeHandler(second, objects, PricingSettings()), event)

    assert (len(first.jobs), len(second.jobs)) == (1, 0)
    assert (again.event_id, again.transcript) == (ready.event_id, ready.transcript)
    assert again.engine_ms == 0
    assert usage_again.model_dump_json() == usage.model_dump_json()


class Omitting(FakeEngine):
    """Omits the text of three stretches."""

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        heard = (await super().transcribe(job)).transcript
        stretches = [(0, 1_000, "repetition"), (2_000, 5_000, "repetition"), (500, 700, "echo")]
        omitted = [Omitted(start_ms=start, end_ms=end, channel=0, reason=reason) for start, end, reason in stretches]
        return Transcription(heard.model_copy(update={"omitted": omitted}))


async def test_omitted_text_is_counted_once(objects: ObjectStore) -> None:
    """Transcribes a recording whose transcript omits three stretches, and delivers its event again.

    The metrics must have their number and their milliseconds by reason. The second delivery finds the transcript and
    counts nothing. The registry is the one that the service serves.
    """
    event = recording(objects, new_call(), WAV, 60_000)
    metrics = TranscriptMetrics("transcribe")
    handler = TranscribeHandler(Omitting(), objects, PricingSettings(), metrics=metrics)
    await handled(handler, event)
    await handled(handler, event)

    def value(name: str, reason: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"stage": "transcribe", "reason": reason})

    assert value("audiotext_transcribe_omitted_stretches_total", "repetition") == 2
    assert value("audiotext_transcribe_omitted_audio_ms_total", "repetition") == 4_000
    assert value("audiotext_transcribe_omitted_stretches_total", "echo") == 1
    assert value("audiotext_transcribe_omitted_audio_ms_total", "echo") == 200


class Slow(FakeEngine):
    """Hears something else every time, and is done when it is let."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        self.asked.set()
        await self.go_on.wait()
        heard = (await super().transcribe(job)).transcript
        segment = heard.segments[0].model_copy(update={"text": self._text})
        return Transcription(heard.model_copy(update={"segments": [segment]}))


async def test_parts_with_the_same_audio_are_charged_each(objects: ObjectStore) -> None:
    """Transcribes two parts of a call that have the same audio, which makes them one job, and then asks for the price
    of a replay of each part with another configuration. Both parts were charged, so the replay costs the customer
    nothing. A failure means that the replay of the second part is charged as if no live stage had processed it."""
    first = recording(objects, new_call(), WAV, 60_000)
    second = first.model_copy(update={"part": 2, "event_id": f"{first.event_id}-2"})
    handler = TranscribeHandler(FakeEngine(), objects, PricingSettings())
    lines = [(await handled(handler, event))[1] for event in (first, second)]
    assert len({line.key for line in lines}) == 1
    assert {line.price for line in lines} == {Decimal("0.0100")}

    usual = Charge(units=50, provider_cost=Decimal(1), price=Decimal(1), currency="USD")
    replays = ChargePolicy("transcribe", objects, PricingSettings(), live=False)
    for event in (first, second):
        charge = await replays(event, UsageKey(UsageKind.TRANSCRIPTION, "another"), usual)
        assert charge is not None
        assert (charge.units, charge.price) == (0, Decimal(0))


async def test_of_two_at_one_job_the_first_to_be_done_tells_for_both(objects: ObjectStore) -> None:
    """Two processes transcribe one recording at the same time, as after a rebalance, and their engines do not hear the
    same. Both tell of the transcript of the first that was done, and that is what lies there. If the second's took its
    place, what the first has told of would match its SHA-256 never again: no summary, no vectors, and no replay."""
    event = recording(objects, new_call(), WAV, 60_000)
    early, late = Slow("Hello."), Slow("Hallo.")
    tasks = [
        asyncio.create_task(handled(TranscribeHandler(engine, objects, PricingSettings()), event))
        for engine in (early, late)
    ]
    await asyncio.wait_for(asyncio.gather(early.asked.wait(), late.asked.wait()), 30)
    for engine, task in zip((early, late), tasks, strict=True):
        engine.go_on.set()
        await task

    (ready, usage), (again, usage_again) = (task.result() for task in tasks)
    stored = Transcript.model_validate_json(objects.get_verified(ready.transcript))
    assert stored.segments[0].text == "Hello."
    assert (again.event_id, again.transcript) == (ready.event_id, ready.transcript)
    assert usage_again.model_dump_json() == usage.model_dump_json()


async def test_a_stored_transcript_is_never_made_again(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store takes a write and its answer is lost, which is all that a worker that is killed then knows, for each of
    the writes; the event is delivered to another worker. Once a transcript is stored no engine is used again. A failure
    means that a transcript can be stored before its record, so that nothing leads to it, and nothing knows its bill."""
    swap, made = objects.compare_and_swap, []
    for number in range(1, 4):
        event = recording(objects, new_call(), WAV, 60_000)
        writes: list[str] = []

        def lost(*args: Any, number: int = number, writes: list[str] = writes, **more: Any) -> Any:
            written = swap(*args, **more)
            writes.append(args[0])
            if len(writes) == number:
                raise ObjectStoreError("the answer is lost")
            return written

        monkeypatch.setattr(objects, "compare_and_swap", lost)
        with pytest.raises(RetryableError):
            await handled(TranscribeHandler(FakeEngine(), objects, PricingSettings()), event)
        monkeypatch.setattr(objects, "compare_and_swap", swap)
        engine = FakeEngine()
        ready, _ = await handled(TranscribeHandler(engine, objects, PricingSettings()), event)
        made.append(len(engine.jobs))
        assert engine.jobs == [] or ready.transcript.key not in writes
    assert made == [1, 1, 0]  # after the first charge, the charge, the transcript


async def test_what_was_heard_waits_for_a_store_that_takes_nothing(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket can be read and takes nothing for two attempts, as when it is full. The third stores what the engine
    heard at the first: heard anew each time, a provider would be paid at every attempt for as long as the disk is
    full."""
    event = recording(objects, new_call(), WAV, 60_000)
    engine, swap, refusals = FakeEngine(), objects.compare_and_swap, [1, 2]

    def full(*args: Any, **more: Any) -> Any:
        if refusals:
            refusals.pop()
            raise ObjectStoreError("full")
        return swap(*args, **more)

    monkeypatch.setattr(objects, "compare_and_swap", full)
    handler = TranscribeHandler(engine, objects, PricingSettings())
    for _ in range(2):
        with pytest.raises(RetryableError):
            await handler(event)
    ready, _ = await handled(handler, event)

    assert len(engine.jobs) == 1
    assert objects.get_verified(ready.transcript)


async def test_another_configuration_is_another_job(objects: ObjectStore) -> None:
    """The model was changed and the call is replayed: it must be transcribed anew and not find the old result."""
    event = recording(objects, new_call(), WAV, 60_000)
    small = FakeEngine("tiny.en")

    ready, _ = await handled(TranscribeHandler(FakeEngine(), objects, PricingSettings()), event)
    other, _ = await handled(TranscribeHandler(small, objects, PricingSettings()), event)

    assert len(small.jobs) == 1
    assert other.transcript_id != ready.transcript_id


async def test_an_empty_recording_has_a_line_over_nothing(objects: ObjectStore) -> None:
    """A call without a frame: a transcript and one line of 0 units, so that calls and lines still count alike."""
    _, usage = await handled(
        TranscribeHandler(FakeEngine(), objects, PricingSettings()), recording(objects, new_call(), WAV, 0)
    )

    assert (usage.units, usage.price, usage.provider_cost) == (0, Decimal(0), Decimal(0))


async def test_days_of_audio_are_not_even_fetched(objects: ObjectStore) -> None:
    """A recording of 5 GB: given up at once with a reason. Tried, it would take the machine's disk and memory, and the
    service with it, again and again."""
    event = recording(objects, new_call(), WAV, 150_000_000)
    huge = event.model_copy(update={"audio": event.audio.model_copy(update={"size": 5_000_000_000})})

    with pytest.raises(PermanentError, match=r"5\.0 GB"):
        await TranscribeHandler(FakeEngine(), objects, PricingSettings())(huge)


async def test_a_recording_that_was_deleted_is_not_retried(objects: ObjectStore) -> None:
    """The call was erased before its turn came. It will not come back: permanent."""
    event = recording(objects, new_call(), WAV, 1000)
    objects.remove(event.audio.key)

    with pytest.raises(PermanentError, match="gone"):
        await TranscribeHandler(FakeEngine(), objects, PricingSettings())(event)


async def test_a_recording_that_differs_from_its_claim_is_not_transcribed(objects: ObjectStore) -> None:
    """What the store gives is not what the recorder stored. No money may be spent on it; another try may get it
    whole."""
    event = recording(objects, new_call(), WAV, 1000)
    objects.put(event.audio.key, b"something else", "audio/wav")
    engine = FakeEngine()

    with pytest.raises(RetryableError, match="SHA-256"):
        await TranscribeHandler(engine, objects, PricingSettings())(event)
    assert engine.jobs == []


async def test_storage_that_is_away_is_worth_another_try(start_server: StartServer) -> None:
    """The object storage is killed: the job must be put aside and not be given up."""
    server = start_server("objects")
    objects = ObjectStore(s3_settings(server))
    objects.ensure_bucket()
    event = recording(objects, new_call(), WAV, 1000)
    server.kill()

    with pytest.raises(RetryableError):
        await TranscribeHandler(FakeEngine(), objects, PricingSettings())(event)


def test_a_call_survives_a_kill_of_the_service(
    start_server: StartServer, object_server: RunningServer, s3: S3Settings, model_cache: Path, tmp_path: Path
) -> None:
    """The service, as it runs in production, is killed with SIGKILL while it transcribes a real call, and started
    again. What must be there then: the call's transcript, right, and one ledger key, whatever number of times it was
    told. SIGTERM ends the service at once although a call is at work. The audio file of the killed service must be
    deleted at the next start: it would outlive the erasure of its call."""
    log = start_server("log")
    kafka, env = own_log_and_environment(log, object_server, model_cache)
    call = demo_call("clinic_reschedule")
    objects = ObjectStore(s3)
    call_id = new_call()
    event = recording(objects, call_id, call.write_wav(tmp_path / "a.wav").read_bytes(), call.duration_ms)
    producer = EventProducer(kafka)

    work = model_cache.parent / "transcriber"

    with offsets(kafka, "transcribe", Topic.RECORDING_READY) as done:
        with running("pipelines.transcribe.handler", env, tmp_path / "log") as first:
            wait_until(lambda: "loaded" in first.output, "the model is loaded before a call comes", 60)
            producer.send(Topic.RECORDING_READY, [event])
            wait_until(lambda: f"of call {call_id}" in first.output, "the call is at work")
            first.kill()
        assert done() == 0
        [left] = work.glob("*/*/audio.wav")

        with running("pipelines.transcribe.handler", env, tmp_path / "log") as second:
            wait_until(lambda: done() == 1, "the call is done", 90)
            assert not left.exists()
            [ready] = [parse_event(value) for value in records(kafka, Topic.TRANSCRIPT_READY, 1)]
            [usage] = [parse_event(value) for value in records(kafka, Topic.USAGE_RECORDED, 1)]
            wav = (tmp_path / "a.wav").read_bytes()
            another = recording(objects, new_call(), wav, call.duration_ms)
            producer.send(Topic.RECORDING_READY, [another])
            wait_until(lambda: f"of call {another.call_id}" in second.output, "another call is at work")
            code, took_s = second.terminate()

    assert isinstance(ready, TranscriptReady)
    assert isinstance(usage, UsageRecorded)
    transcript = json.loads(objects.get_verified(ready.transcript))
    heard = " ".join(s["text"] for s in transcript["segments"] if s["channel"] == 1)
    assert word_error_rate(call.said(1), heard) <= 0.1
    assert usage.key == f"transcription_{ready.transcript_id}"
    assert usage.units == 73
    assert ready.engine_ms > 0
    assert code == 0, second.output
    assert took_s < 3
