"""Erasure: nothing of the call is left anywhere but its line of the bill, and nothing brings it back."""

import time
import uuid
from dataclasses import dataclass, field

import pytest

from core.settings import ClickHouseSettings, QdrantSettings, S3Settings
from pipelines.erase.handler import EraseHandler, LateResultEraser, requested
from pipelines.jobs.job_record import JobRecord
from pipelines.jobs.order_record import OrderRecord
from pipelines.providers.base import RemoteJobs
from pipelines.runtime.errors import PermanentError, RetryLaterError
from schemas.artifacts import call_prefix, job_record_key
from schemas.events import CallErased, ErasureRequested, StageFailed
from schemas.replays import outcome
from sinks.clickhouse.call_list_query import CallFilter
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore, collection_of
from tests.api.conftest import Put, WordEmbedder, stage_failed, transcript_id


@dataclass
class Provider:
    """A provider that keeps orders; released: those it was told to delete."""

    orders: dict[str, str] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)

    async def find(self, key: str) -> str | None:
        return self.orders.get(key)

    async def release(self, remote_id: str) -> None:
        self.released.append(remote_id)


@dataclass
class Desk:
    """Stores and a handler over them."""

    put: Put
    calls: CallStore
    store: ReplayStore
    handler: EraseHandler
    provider: Provider
    words: WordEmbedder
    discarded: list[StageFailed]

    def left(self, tenant: str, call_id: str) -> dict[str, int]:
        """How much of the call there is."""
        counts = {}
        for table in ("events", "segments", "ledger"):
            sql = f"SELECT count() AS n FROM {table} FINAL WHERE tenant = {{t:String}} AND call_id = {{c:String}}"
            counts[table] = int(str(self.put.database.query(sql, {"t": tenant, "c": call_id})[0]["n"]))
        collection = collection_of(self.words.model, self.words.dimension)
        hits = self.put.vector_store.search(collection, self.words.vector("hello"), tenant=tenant, limit=10)
        hits = [hit for hit in hits if hit.call_id == call_id]
        objects = list(self.put.objects.list(call_prefix(tenant, call_id)))
        return counts | {"vectors": len(hits), "objects": len(objects)}


@pytest.fixture
def desk(clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings) -> Desk:
    """The handler over the shared stores, with a provider that is asked if there are orders."""
    provider = Provider()
    objects, vectors = ObjectStore(s3), VectorStore(qdrant)
    calls, store = CallStore(clickhouse), ReplayStore(clickhouse)
    jobs: RemoteJobs = provider  # type: ignore[assignment]  # it is asked for no more
    discarded: list[StageFailed] = []
    handler = EraseHandler(calls, store, objects, vectors, lambda: jobs, discard_audio=discarded.extend)
    put = Put(Database(clickhouse), objects, vectors)
    return Desk(put, calls, store, handler, provider, WordEmbedder(f"words-{uuid.uuid4().hex}"), discarded)


async def test_nothing_is_left_but_the_line_of_the_bill(desk: Desk) -> None:
    """A complete call with audio, transcript, vectors, rows, and an order that its provider still keeps, beside another
    call of the same tenant. All of the one is deleted, its line of the bill stays, and the other call is untouched. If
    it failed, somebody's voice would stay where nobody looks."""
    tenant, call_id, other = (f"{what}-{uuid.uuid4().hex}" for what in ("t", "CA", "CA"))
    for name in (call_id, other):
        desk.put.call(tenant, name)
        desk.put.vectors(desk.words, tenant, name, ["hello"])
    order = transcript_id(tenant, call_id, 1)
    job = JobRecord(order=OrderRecord(state="submitted", remote_id="order-1")).model_dump_json().encode()
    desk.put.object(job_record_key(tenant, call_id, order), job, "application/json")
    before = desk.left(tenant, other)
    assert min(desk.left(tenant, call_id)[what] for what in ("events", "ledger", "objects", "vectors")) > 0

    told = await desk.handler(requested(tenant, call_id))

    assert desk.left(tenant, call_id) == {"events": 0, "segments": 0, "ledger": 1, "vectors": 0, "objects": 0}
    assert desk.left(tenant, other) == before
    assert desk.provider.released == ["order-1"]
    assert [type(output.event) for output in told] == [CallErased]
    assert [call.id for call in desk.calls.list_calls(CallFilter(tenant=tenant))[0]] == [other]


async def test_what_is_told_later_does_not_bring_it_back(desk: Desk) -> None:
    """After the erasure the call's events are read from the log again, as after a reset of the analytics group. The
    call must not come back; and a second request, as after a crash, deletes those rows, too."""
    tenant, call_id = f"t-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}"
    desk.put.call(tenant, call_id)
    await desk.handler(requested(tenant, call_id))

    desk.put.call(tenant, call_id)

    assert desk.calls.get_call(call_id, tenant) is None
    assert desk.calls.events_by_call([(tenant, call_id)]) == {}
    await desk.handler(requested(tenant, call_id))
    assert desk.left(tenant, call_id)["events"] == 0


async def test_what_is_under_way_comes_to_its_end_first(desk: Desk) -> None:
    """A call that is being transcribed is hidden at once, and deleted when its transcription is through, here by giving
    up. If it failed, a transcript would be stored after everything had been deleted, and stay for ever."""
    tenant, call_id = f"t-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}"
    now = time.time_ns() // 1_000_000
    desk.put.call(tenant, call_id, "recorded")
    (event,) = [
        one for one in desk.calls.events_by_call([(tenant, call_id)])[tenant, call_id] if one.type == "recording.ready"
    ]
    desk.put.events(event.model_copy(update={"event_id": "now", "occurred_at_ms": now}))

    with pytest.raises(RetryLaterError):
        await desk.handler(requested(tenant, call_id))

    assert desk.calls.get_call(call_id, tenant) is None
    assert desk.left(tenant, call_id)["objects"] > 0
    desk.put.events(stage_failed(tenant, call_id, "transcribe"))
    await desk.handler(requested(tenant, call_id))
    assert desk.left(tenant, call_id)["objects"] == 0


async def test_audio_that_the_recorder_keeps_is_discarded(desk: Desk) -> None:
    """Erases a call whose recording became a dead letter, and whose other part failed at the transcription.

    The recorder must be asked to delete the audio of its own dead letter, and of no other stage. Without it, the audio
    of the erased call stays in the recorder's spool.
    """
    tenant, call_id = f"t-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}"
    desk.put.call(tenant, call_id, "recorded")
    kept = stage_failed(tenant, call_id, "recorder").model_copy(update={"part": 2, "origin_partition": 3})
    desk.put.events(kept, stage_failed(tenant, call_id, "transcribe"))

    await desk.handler(requested(tenant, call_id))

    assert [(letter.call_id, letter.part, letter.origin_partition) for letter in desk.discarded] == [(call_id, 2, 3)]
    assert desk.left(tenant, call_id)["events"] == 0


async def test_one_part_s_failure_is_not_the_end_of_the_others(desk: Desk) -> None:
    """A call whose first part was given up while its second is being transcribed: the erasure waits for the second.
    Taken for a failed call, it would be deleted under the transcription's hands."""
    tenant, call_id = f"t-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}"
    now = time.time_ns() // 1_000_000
    desk.put.call(tenant, call_id, "recorded")
    desk.put.events(stage_failed(tenant, call_id, "transcribe"))
    desk.put.stage(tenant, call_id, "recorded", part=2)
    told = desk.calls.events_by_call([(tenant, call_id)])[tenant, call_id]
    second = next(event for event in told if event.type == "recording.ready" and event.part == 2)
    desk.put.events(second.model_copy(update={"event_id": "now", "occurred_at_ms": now}))

    with pytest.raises(RetryLaterError):
        await desk.handler(requested(tenant, call_id))

    assert desk.left(tenant, call_id)["objects"] > 0


async def test_what_comes_after_the_erasure_is_erased_as_well(desk: Desk) -> None:
    """A call is erased while a replay is at it, and the replay's results are stored and told afterwards; so are another
    call's, which is not erased. The telling has the one call erased again and nothing is left of it; the other is not
    touched. If it failed, an erased call's transcript and vectors would lie there for ever, unseen."""
    tenant, call_id, other = (f"{what}-{uuid.uuid4().hex}" for what in ("t", "CA", "CA"))
    desk.put.call(tenant, call_id)
    desk.put.call(tenant, other)
    before = desk.left(tenant, other)
    events = [
        event for told in desk.calls.events_by_call([(tenant, call_id), (tenant, other)]).values() for event in told
    ]
    await desk.handler(requested(tenant, call_id))

    desk.put.call(tenant, call_id)
    desk.put.vectors(desk.words, tenant, call_id, ["hello"])
    asked: list[ErasureRequested] = []
    LateResultEraser(desk.calls, asked.extend)(events)

    assert [(one.tenant, one.call_id) for one in asked] == [(tenant, call_id)]
    await desk.handler(asked[0])
    assert desk.left(tenant, call_id) == {"events": 0, "segments": 0, "ledger": 1, "vectors": 0, "objects": 0}
    assert desk.left(tenant, other) == before


async def test_an_erasure_is_no_reason_for_another(desk: Desk) -> None:
    """Tells of an erased call what tells of no result: its request, its end, an erasure that failed, a replay that
    passed it over. Asked again for these it would be erased without end. A replay that failed at it is another matter:
    it may have stored a transcript before."""
    tenant, call_id = f"t-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}"
    desk.put.call(tenant, call_id)
    told = await desk.handler(requested(tenant, call_id))
    asked: list[ErasureRequested] = []
    again = LateResultEraser(desk.calls, asked.extend)

    again([requested(tenant, call_id), *(one.event for one in told), stage_failed(tenant, call_id, "erase")])
    again([outcome("r1", tenant, call_id, 1, 0, outcome="skipped", note="the call was erased")])
    assert asked == []

    again([outcome("r1", tenant, call_id, 1, 0, outcome="failed", note="")])
    assert len(asked) == 1


async def test_an_order_of_a_provider_that_is_not_configured_is_reported(desk: Desk) -> None:
    """Erases a call with an open order whose provider is not configured any more.

    Everything here is deleted except the record that names the order, and the dead letter names the order. After the
    provider is configured again, a second request releases the order and deletes the record. A failure means that the
    data of the call stays hidden here, or that we report a deletion that did not happen.
    """
    tenant, call_id = f"t-{uuid.uuid4().hex}", f"CA{uuid.uuid4().hex}"
    desk.put.call(tenant, call_id)
    job = JobRecord(order=OrderRecord(state="submitted", remote_id="order-1")).model_dump_json().encode()
    desk.put.object(job_record_key(tenant, call_id, "x"), job, "application/json")
    handler = EraseHandler(
        desk.calls,
        desk.store,
        desk.put.objects,
        desk.put.vector_store,
        lambda: None,
        discard_audio=desk.discarded.extend,
    )

    with pytest.raises(PermanentError, match=r"everything here is deleted, but a provider may keep .*: order-1"):
        await handler(requested(tenant, call_id))

    assert desk.left(tenant, call_id) == {"events": 0, "segments": 0, "ledger": 1, "vectors": 0, "objects": 1}
    await desk.handler(requested(tenant, call_id))
    assert desk.left(tenant, call_id)["objects"] == 0
