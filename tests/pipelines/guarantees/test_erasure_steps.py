"""Erasure: whatever step it is killed at, once it was asked for again nothing of the call is left anywhere."""

import uuid
from pathlib import Path

import pytest

from core.settings import ClickHouseSettings, QdrantSettings, S3Settings, Settings
from pipelines.erase.handler import requested
from schemas.events import CallErased, RecordingReady, TranscriptReady, UsageRecorded
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import event_row, ledger_row
from sinks.object_store import ObjectStore
from tests.fakes.gemini import FakeGemini
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.pipelines.guarantees.stages import (
    erasure,
    gemini_embedder,
    gemini_summarizer,
    kept_of,
    soniox_transcriber,
)
from tests.pipelines.guarantees.workers import Fault, Steps, deliver
from tests.support.ids import new_call
from tests.support.pipeline_events import recording
from tests.support.transcription_jobs import job_of

FEWEST_STEPS = 12


@pytest.fixture
def settings(clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings) -> Settings:
    """The shared stores."""
    CallStore(clickhouse).migrate()
    return Settings(clickhouse=clickhouse, s3=s3, qdrant=qdrant)


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    """A recording with one sound."""
    return job_of(tmp_path / "a.wav", [(1, 2)], [], seconds=10).audio.read_bytes()


def rows(settings: Settings, event: RecordingReady) -> dict[str, int]:
    """How many rows of the call there are, by table."""
    found = {}
    for table in ("events", "segments", "ledger"):
        sql = f"SELECT count() AS n FROM {table} FINAL WHERE tenant = {{t:String}} AND call_id = {{c:String}}"
        answer = Database(settings.clickhouse).query(sql, {"t": event.tenant, "c": event.call_id})
        found[table] = int(str(answer[0]["n"]))
    return found


async def call_with_open_orders(
    soniox: FakeSoniox, settings: Settings, objects: ObjectStore, wav: bytes
) -> RecordingReady:
    """A call of two parts with an order each that the provider keeps: one of a worker that died before it knew the
    order's id, one that could not be deleted."""
    transcriber = soniox_transcriber(soniox, settings.s3)
    event = recording(objects, new_call(), wav, 10_000, tenant=f"t-{uuid.uuid4().hex}")
    audio = objects.put(f"{event.audio.key}.2", wav[:-2], "audio/wav")
    second = event.model_copy(update={"event_id": f"{event.event_id}-2", "part": 2, "audio": audio})
    Database(settings.clickhouse).insert([event_row(event)])
    soniox.refusals[:] = [Refusal("DELETE .*", 500, "internal_error", "Sorry.", times=1_000)]
    await deliver(transcriber, second)
    soniox.refusals.clear()
    await deliver(transcriber, event, Steps(Fault.KILL, 1, "Soniox.submit"))
    return event


async def test_killed_after_any_step_nothing_is_left_anywhere(
    soniox: FakeSoniox, settings: Settings, objects: ObjectStore, wav: bytes
) -> None:
    """The provider keeps two orders of a call: one of a worker that died before it knew the order's id, one that could
    not be deleted. The erasure is killed after its n-th step and asked for again. Whatever n: no object, no row, no
    order and no audio at the provider are left.

    A failure means that somebody's voice stays at a third party, and nobody knows of it any more.
    """
    make = erasure(settings, soniox)
    steps = Steps()
    event = await call_with_open_orders(soniox, settings, objects, wav)
    await deliver(make, requested(event.tenant, event.call_id), steps)
    for step in steps.ends_of_runs():
        event = await call_with_open_orders(soniox, settings, objects, wav)
        assert len(soniox.orders) == 2

        killed, request = Steps(Fault.KILL, step), requested(event.tenant, event.call_id)
        assert (await deliver(make, request, killed)).outputs is None
        told = await deliver(make, request)

        where = f"killed at step {step}, {killed.struck}"
        assert [type(one.event) for one in told.outputs or ()] == [CallErased], where
        assert (soniox.orders, soniox.files) == ({}, {}), where
        assert kept_of(objects, event) == {}, where
        assert rows(settings, event) == {"events": 0, "segments": 0, "ledger": 0}, where
    assert step > FEWEST_STEPS


async def test_all_that_stages_store_of_a_call_is_found(
    soniox: FakeSoniox, gemini: FakeGemini, settings: Settings, objects: ObjectStore, wav: bytes
) -> None:
    """Every live stage works on two calls, the id of one of which begins with the other's. The one is erased: nothing
    of it is left but its lines of the bill, and the other has all it had.

    A failure means that a stage stores something where an erasure does not look, or that it takes too much.
    """
    tenant, call_id = f"t-{uuid.uuid4().hex}", new_call()
    recordings = [recording(objects, name, wav, 10_000, tenant=tenant) for name in (call_id, f"{call_id}2")]
    lines = []
    for event in recordings:
        outputs = [*((await deliver(soniox_transcriber(soniox, settings.s3), event)).outputs or ())]
        [transcribed] = [one.event for one in outputs if isinstance(one.event, TranscriptReady)]
        for make in (
            gemini_summarizer(gemini, settings.s3),
            gemini_embedder(gemini, settings.s3, settings.qdrant),
        ):
            outputs += (await deliver(make, transcribed)).outputs or ()
        events = [one.event for one in outputs]
        lines.append([one for one in events if isinstance(one, UsageRecorded)])
        database = Database(settings.clickhouse)
        database.insert([event_row(event), *(event_row(one) for one in events)])  # type: ignore[arg-type]
        database.insert([ledger_row(one) for one in lines[-1]])
    erased, other = recordings
    assert [len(found) for found in lines] == [3, 3]
    objects_of_other, rows_of_other = kept_of(objects, other), rows(settings, other)

    await deliver(erasure(settings, soniox), requested(tenant, call_id))

    assert [key for key in objects.list() if f"{call_id}/" in key] == []
    assert rows(settings, erased) == {"events": 0, "segments": 0, "ledger": 3}
    assert kept_of(objects, other) == objects_of_other
    assert rows(settings, other) == rows_of_other
