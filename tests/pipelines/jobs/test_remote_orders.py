"""Orders at a paid provider: one per job, whatever is killed, frozen, lost or refused, and whenever."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from core.settings import PricingSettings, S3Settings, SonioxSettings
from pipelines.jobs.documents import Document
from pipelines.jobs.job_record import JobDocument
from pipelines.jobs.order_record import OrderRecord
from pipelines.jobs.remote_orders import RemoteTranscription
from pipelines.providers.base import TranscriptionJob
from pipelines.providers.soniox.transcriber import Soniox
from pipelines.runtime.errors import PermanentError, ProviderOutageError, RetryableError, RetryLaterError
from pipelines.transcribe.handler import TranscribeHandler
from schemas.artifacts import Transcript
from schemas.events import RecordingReady, TranscriptReady
from sinks.object_store import ObjectStore
from tests.fakes import soniox_rules as fake
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.support.clocks import ManualClock
from tests.support.ids import new_call
from tests.support.order_worker import TIMING, Fault, client, processes, start
from tests.support.pipeline_events import recording
from tests.support.transcription_jobs import job_of
from tests.support.waiting import wait_until

STEPS = 12  # calls of a run in which nothing happens; a test sees to it that there are no more


@pytest.fixture
async def provider() -> AsyncIterator[FakeSoniox]:
    """A provider of the test's own."""
    server = FakeSoniox(takes_s=0)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Where workers come from."""
    return processes()


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


@pytest.fixture
def job(tmp_path: Path) -> TranscriptionJob:
    """A recording of a minute, with one sound."""
    return job_of(tmp_path / "a.wav", [(1, 2)], [], seconds=60)


@pytest.fixture
def event(objects: ObjectStore, job: TranscriptionJob) -> RecordingReady:
    """The same, stored and told of."""
    return recording(objects, new_call(), job.audio.read_bytes(), job.duration_ms)


def is_frozen(pid: int) -> bool:
    """Whether the process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


async def finished(process: BaseProcess) -> int | None:
    """The worker's exit code."""
    await asyncio.to_thread(process.join, 60)
    return process.exitcode


def handler(provider: FakeSoniox, objects: ObjectStore) -> TranscribeHandler:
    """A worker in this process."""
    return TranscribeHandler(client(provider.url), objects, PricingSettings(), TIMING)


async def until_done(work: TranscribeHandler, event: RecordingReady) -> TranscriptReady:
    """The transcript's event, after as many deliveries as it takes."""
    while True:
        try:
            ready = (await work(event))[0].event
        except RetryLaterError as error:
            await asyncio.sleep(error.retry_after_s or 0)
        else:
            assert isinstance(ready, TranscriptReady)
            return ready


@pytest.mark.parametrize("step", range(1, STEPS + 1))
async def test_killed_after_any_step_it_is_ordered_once(
    step: int,
    provider: FakeSoniox,
    context: ForkServerContext,
    s3: S3Settings,
    event: RecordingReady,
) -> None:
    """A worker is killed with SIGKILL right after its n-th call of storage or provider, for every n; the job is
    delivered again to another one. Whatever n: one order, its result stored, nothing left at the provider."""
    assert await finished(start(context, provider.url, s3, event, Fault(step, signal.SIGKILL))) == -signal.SIGKILL
    assert await finished(start(context, provider.url, s3, event, None)) == 0

    objects = ObjectStore(s3)
    ready = await until_done(handler(provider, objects), event)
    assert provider.ordered == {ready.transcript_id: 1}
    assert (provider.orders, provider.files) == ({}, {})
    transcript = Transcript.model_validate_json(objects.get_verified(ready.transcript))
    assert [(turn.speaker, turn.text) for turn in transcript.segments] == [("inbound", "hello.")]


async def test_those_are_all_the_steps(
    provider: FakeSoniox, context: ForkServerContext, s3: S3Settings, event: RecordingReady
) -> None:
    """A worker that would die one step later than the last gets to its end: the test above leaves none out."""
    assert await finished(start(context, provider.url, s3, event, Fault(STEPS + 1, signal.SIGKILL))) == 0


@pytest.mark.parametrize("step", [2, 3], ids=["before its claim", "after its claim, just before the order"])
async def test_a_frozen_worker_that_wakes_up_late_does_not_order(
    step: int, provider: FakeSoniox, context: ForkServerContext, s3: S3Settings, event: RecordingReady
) -> None:
    """A zombie: a worker freezes (SIGSTOP) around writing its claim, its partition goes to another one, which orders
    and finishes; then the first wakes up and goes on where it was. It must not order as well. (The provider deletes
    nothing here: a late order must not fail only because its audio is gone.)"""
    provider.refusals.append(Refusal("DELETE .*", 404, "transcription_not_found", "Not found.", times=1_000))
    zombie = start(context, provider.url, s3, event, Fault(step, signal.SIGSTOP))
    assert zombie.pid
    await asyncio.to_thread(wait_until, partial(is_frozen, zombie.pid), "the zombie is frozen")
    assert await finished(start(context, provider.url, s3, event, None)) == 0
    os.kill(zombie.pid, signal.SIGCONT)

    assert await finished(zombie) == 0
    assert list(provider.ordered.values()) == [1]


async def test_no_such_order_is_old_news_after_a_freeze(
    provider: FakeSoniox, objects: ObjectStore, job: TranscriptionJob
) -> None:
    """A request is on its way when a second worker asks for it: no such order. The worker freezes, the request arrives,
    the window ends, it wakes up. What it was told is older than the end of the window, so it has to ask again; if it
    compared the window with the time it woke up, it would order as well."""
    clock = ManualClock()

    class FrozenAfterAsking(Soniox):
        """Six minutes pass between the provider's answer and the next line."""

        async def find(self, key: str) -> str | None:
            found = await super().find(key)
            if not provider.orders:
                await self.submit(job, await self.prepare(job))
                clock.at_s += 360
            return found

    client = FrozenAfterAsking(SonioxSettings(base_url=provider.url), fake.KEY)
    call_id = new_call()
    under_way = OrderRecord(state="claimed", token="another's", expires_at_ms=clock.now_ms() + 60_000)
    assert await JobDocument(objects, "acme", call_id, job.key).replace_order(under_way, replaces=None)

    engine = RemoteTranscription(client, objects, TIMING, clock)
    record = JobDocument(objects, "acme", call_id, job.key)
    result = Document(objects, f"results/{call_id}.json", Transcript)
    with pytest.raises(RetryLaterError):
        await engine.transcribe(job, record, result)
    await engine.transcribe(job, JobDocument(objects, "acme", call_id, job.key), result)
    assert list(provider.ordered.values()) == [1]


async def test_six_workers_at_once_order_once(
    provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """The same job is delivered to six workers at the same time, at a provider that takes its time: one order, and all
    six tell of the same transcript."""
    provider.takes_s = 0.2
    ready = await asyncio.gather(*(until_done(handler(provider, objects), event) for _ in range(6)))

    assert list(provider.ordered.values()) == [1]
    assert len({one.transcript.sha256 for one in ready}) == 1


ORDER = "POST /v1/transcriptions"


@pytest.mark.parametrize("status", [500, 503, 0], ids=["500", "503", "connection lost"])
async def test_an_order_whose_answer_is_lost_is_not_repeated(
    status: int, provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """The provider takes the order and then fails: the next attempt asks for the job's key, finds it and collects."""
    provider.refusals.append(Refusal(ORDER, status, "internal_error", "Sorry.", taken=True))
    with pytest.raises(RetryableError):
        await handler(provider, objects)(event)

    await until_done(handler(provider, objects), event)
    assert list(provider.ordered.values()) == [1]


async def test_an_order_that_may_be_on_its_way_is_waited_for(
    provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """500 without the order being taken, as far as the provider knows: the next attempt must not order at once, since
    the request may still arrive; after the window it does."""
    provider.refusals.append(Refusal(ORDER, 500, "internal_error", "Sorry."))
    with pytest.raises(RetryableError):
        await handler(provider, objects)(event)

    with pytest.raises(RetryLaterError):
        await handler(provider, objects)(event)
    assert provider.ordered == {}
    await until_done(handler(provider, objects), event)
    assert list(provider.ordered.values()) == [1]


@pytest.mark.parametrize(
    ("status", "error"), [(429, RetryableError), (400, PermanentError)], ids=["rate limited", "refused"]
)
async def test_after_a_refusal_nobody_has_to_wait(
    status: int, error: type[Exception], provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """The provider says no before it does anything. The next attempt may order at once; with 429 the wish to come later
    is handed to the runtime."""
    provider.refusals.append(Refusal(ORDER, status, "limit_exceeded", fake.TOO_FAST, {"Retry-After": "7"}))
    with pytest.raises(error) as raised:
        await handler(provider, objects)(event)
    if isinstance(raised.value, RetryableError):
        assert raised.value.retry_after_s == 7

    await handler(provider, objects)(event)
    assert list(provider.ordered.values()) == [1]


async def test_asking_too_often_costs_no_attempt(
    provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """429 twice to the question whether the order is done: the attempt goes on to its result. As a failed attempt each
    it would, on a busy day, end as a dead letter of a call that is transcribed and paid."""
    asked = Refusal("GET /v1/transcriptions/.*", 429, "limit_exceeded", fake.TOO_FAST, {"Retry-After": "0.01"}, times=2)
    provider.refusals.append(asked)
    await handler(provider, objects)(event)
    assert asked.times == 0
    assert list(provider.ordered.values()) == [1]


async def test_a_provider_that_is_away_is_an_outage(
    provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """Nobody listens: the stage has to pause, and not to count attempts."""
    await provider.stop()
    with pytest.raises(ProviderOutageError):
        await handler(provider, objects)(event)


async def test_an_order_the_provider_lost_is_placed_again(
    provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """The provider took the order and then lost it (or somebody deleted it there). The job must not wait for ever for
    a result that cannot come."""
    provider.takes_s = 3_600
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handler(provider, objects)(event), 0.5)
    provider.orders.clear()
    provider.takes_s = 0

    with pytest.raises(RetryableError):
        await handler(provider, objects)(event)
    await until_done(handler(provider, objects), event)
    assert list(provider.ordered.values()) == [2]


async def test_a_price_change_does_not_reach_what_was_told(
    provider: FakeSoniox, objects: ObjectStore, event: RecordingReady
) -> None:
    """A job is told, prices double, the job is delivered again: the ledger line is the same to the byte. Otherwise the
    bill would depend on what crashed when."""
    before = await handler(provider, objects)(event)
    dearer = PricingSettings(price_per_unit=PricingSettings().price_per_unit * 2)
    after = await TranscribeHandler(client(provider.url), objects, dearer, TIMING)(event)

    assert after[1].event.model_dump_json() == before[1].event.model_dump_json()
