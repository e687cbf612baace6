"""What a provider keeps: nothing, once a result is stored; and what a full store there means for a call."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from core.settings import PricingSettings, S3Settings
from pipelines.jobs.completion_listener import CompletionListener
from pipelines.jobs.provider_cleanup import ProviderCleanup
from pipelines.jobs.remote_orders import Timing
from pipelines.runtime.errors import QuotaError, RetryLaterError
from pipelines.transcribe.handler import TranscribeHandler
from schemas.artifacts import RELEASES, remote_id_of
from schemas.events import RecordingReady, UsageRecorded
from sinks.object_store import ObjectStore
from tests.fakes import soniox_rules as fake
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.support.ids import new_call
from tests.support.order_worker import TIMING, client
from tests.support.pipeline_events import recording
from tests.support.transcription_jobs import job_of


@pytest.fixture
async def server() -> AsyncIterator[FakeSoniox]:
    """A Soniox of the test's own, that is done at once."""
    one = FakeSoniox(takes_s=0)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


def call(objects: ObjectStore, folder: Path) -> RecordingReady:
    """A recording of a minute with one long sound, stored and told of."""
    job = job_of(folder / "a.wav", [(1, 41)], [], seconds=60)
    return recording(objects, new_call(), job.audio.read_bytes(), job.duration_ms)


def worker(server: FakeSoniox, objects: ObjectStore, notices: CompletionListener | None = None) -> TranscribeHandler:
    """A transcriber that orders there, and has tidied up nothing yet."""
    return TranscribeHandler(client(server.url), objects, PricingSettings(), TIMING, notices)


def notes(objects: ObjectStore) -> list[str]:
    """Markers of what a provider still has to delete."""
    return list(objects.list(RELEASES))


async def test_what_could_not_be_deleted_is_deleted_with_the_next_job(
    server: FakeSoniox, objects: ObjectStore, tmp_path: Path
) -> None:
    """Soniox fails at deleting, in a process that has just tidied up: the call has its transcript and its line all the
    same, and what lies there is noted down. With the next call both copies and the note are deleted. Were the note
    missing, the audio would lie there for ever, since the first call is never looked at again."""
    one = worker(server, objects)
    await one(call(objects, tmp_path))
    server.refusals.append(Refusal("DELETE /v1/transcriptions/.*", 500, "internal_error", "Sorry."))
    assert len(await one(call(objects, tmp_path))) == 2
    assert len(server.orders) == 1
    assert len(notes(objects)) == 1

    assert len(await one(call(objects, tmp_path))) == 2
    assert (server.orders, server.files, notes(objects)) == ({}, {}, [])


async def test_a_full_store_is_freed_and_the_call_goes_on(
    server: FakeSoniox, objects: ObjectStore, tmp_path: Path
) -> None:
    """The store holds a single order, and that is a leftover. The next call meets the limit, deletes the leftover, is
    put aside without an attempt being counted, and then is ordered."""
    server.refusals.append(Refusal("DELETE /v1/transcriptions/.*", 500, "internal_error", "Sorry."))
    await worker(server, objects)(call(objects, tmp_path))
    server.max_orders = 1
    event = call(objects, tmp_path)
    following = worker(server, objects)

    with pytest.raises(RetryLaterError, match="orders deleted: 1") as raised:
        await following(event)
    assert raised.value.retry_after_s == 0
    assert len(await following(event)) == 2
    assert (server.orders, server.files, notes(objects)) == ({}, {}, [])


async def test_a_marker_stays_until_the_provider_has_deleted(
    server: FakeSoniox, objects: ObjectStore, tmp_path: Path
) -> None:
    """Marks an order to be released; the provider fails at the first clean-up and works at the second. The marker is
    there after the first one, and gone with the order after the second one. Removed before the order is, a marker would
    be lost with a clean-up that fails or is killed, and the audio would stay at the provider for ever."""
    jobs = client(server.url)
    job = job_of(tmp_path / "a.wav", [(1, 2)], [], seconds=3)
    remote_id = await jobs.submit(job, await jobs.prepare(job))
    cleanup = ProviderCleanup(jobs, objects)
    await cleanup.release_later(remote_id)

    server.refusals.append(Refusal("DELETE /v1/transcriptions/.*", 500, "internal_error", "Sorry."))
    assert await cleanup.run() == 0
    assert [remote_id_of(key) for key in notes(objects)] == [remote_id]
    assert await cleanup.run() == 1
    assert (server.orders, server.files, notes(objects)) == ({}, {}, [])


async def test_uploads_nobody_ordered_make_room_too(server: FakeSoniox, objects: ObjectStore, tmp_path: Path) -> None:
    """Files that crashes left fill the store: those an hour old are deleted, and the call goes on."""
    await client(server.url).prepare(job_of(tmp_path / "b.wav", [(1, 2)], seconds=3))
    server.age(timedelta(hours=2))
    server.max_files = 1
    event = call(objects, tmp_path)

    with pytest.raises(RetryLaterError):
        await worker(server, objects)(event)
    assert len(await worker(server, objects)(event)) == 2


async def test_a_store_full_of_what_is_not_ours_is_a_matter_of_quota(
    server: FakeSoniox, objects: ObjectStore, tmp_path: Path
) -> None:
    """Nothing of ours can be deleted: the class is quota, with the retry schedule, and nothing of others is touched."""
    foreign = await client(server.url).prepare(job_of(tmp_path / "b.wav", [(1, 2)], seconds=3))
    server.files[foreign].filename = "holiday.mp3"
    server.age(timedelta(hours=2))
    server.max_files = 1

    with pytest.raises(QuotaError, match="Please delete some"):
        await worker(server, objects)(call(objects, tmp_path))
    assert set(server.files) == {foreign}


@pytest.mark.parametrize("late", [False, True], ids=["told", "not told yet"])
async def test_the_ledger_has_what_the_provider_charges(
    late: bool, server: FakeSoniox, objects: ObjectStore, tmp_path: Path
) -> None:
    """A minute of which 40.6 s were sent: the customer pays the minute, the cost is what Soniox' usage log says, or,
    while that is empty, the rate times what it counted. Told again by another process after a price change, when
    nothing is left at Soniox, the line is the same to the byte."""
    server.logs_late = late
    event = call(objects, tmp_path)
    usage = (await worker(server, objects)(event))[1].event
    dearer = PricingSettings(soniox_per_hour=Decimal(9))
    again = (await TranscribeHandler(client(server.url), objects, dearer, TIMING)(event))[1].event

    assert isinstance(usage, UsageRecorded)
    assert (usage.units, usage.price, usage.duration_ms) == (50, Decimal("0.0100"), 60_000)
    assert usage.provider_ms == 40_600
    per_hour = PricingSettings().soniox_per_hour if late else fake.COST_PER_HOUR
    assert abs(usage.provider_cost - per_hour * 40_600 / 3_600_000) < Decimal("0.000001")
    assert usage.cost_source == ("rate" if late else "provider")
    assert again.model_dump_json() == usage.model_dump_json()


async def test_a_charge_that_the_rate_does_not_explain_is_told(
    server: FakeSoniox, objects: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Soniox charges twice what its audio makes, as it would for a second order: the line has what it charges, and the
    log says so. Otherwise money would leave through a hole nobody sees."""
    server.charges = 2
    usage = (await worker(server, objects)(call(objects, tmp_path)))[1].event

    assert isinstance(usage, UsageRecorded)
    assert usage.provider_cost > Decimal("0.002")
    assert "ordered twice" in caplog.text


async def test_a_forgotten_notice_does_not_matter(server: FakeSoniox, objects: ObjectStore, tmp_path: Path) -> None:
    """Soniox is to tell and never does: the order is asked for all the same."""
    server.takes_s = 0.2
    server.forgets_webhooks = True
    assert len(await worker(server, objects, CompletionListener())(call(objects, tmp_path))) == 2


async def test_a_notice_ends_the_wait(server: FakeSoniox, objects: ObjectStore, tmp_path: Path) -> None:
    """An hour between two questions: the notice that the order is done ends the wait at once."""
    board = CompletionListener()
    server.takes_s = 0.2
    server.on_done = board.notify
    slow = Timing(order_s=5, settle_s=5, poll_s=3600)
    handler = TranscribeHandler(client(server.url), objects, PricingSettings(), slow, board)
    assert len(await handler(call(objects, tmp_path))) == 2
