"""erasure.requests → call.erased: deletes everything about a call but its ledger lines.

The request hides the call at once. The erasure waits until the work on the call has ended, as far as that is known;
then it deletes everything, in steps that can be repeated. Results that are stored later all the same (of a replay that
was running, a retry, a stream of the same call) are published like all others, and the consumer that stores their
events requests another erasure.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from pipelines.jobs.documents import Document, translate_store_errors
from pipelines.jobs.job_record import JobRecord
from pipelines.providers.base import RemoteJobs
from pipelines.runtime.errors import PermanentError, RetryableError, RetryLaterError
from pipelines.runtime.stage import Output
from pipelines.stages import ERASE, RECORDER
from redpanda.client import LogUnavailableError
from schemas.artifacts import call_prefix, job_records_prefix
from schemas.events import CallErased, ErasureRequested, Event, ReplayCommand, ReplayedPart, StageFailed
from schemas.ids import uuid_of
from schemas.topics import Topic
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore, VectorStoreError

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 10.0
# A call without an event for that long is not in progress, whatever its status: its stage may be switched off.
_IN_PROGRESS_MS = 86_400_000


class EraseHandler:
    """Handler of one erasure request.

    remote_jobs: returns the provider that keeps audio and text of orders, if one is configured. It is invoked only if
    there are such orders. discard_audio: makes the recorder delete the audio that it keeps for dead letters of its own.
    """

    def __init__(
        self,
        calls: CallStore,
        store: ReplayStore,
        objects: ObjectStore,
        vectors: VectorStore,
        remote_jobs: Callable[[], RemoteJobs | None],
        *,
        discard_audio: Callable[[Sequence[StageFailed]], None],
    ) -> None:
        self._calls = calls
        self._store = store
        self._objects = objects
        self._vectors = vectors
        self._remote_jobs = remote_jobs
        self._discard_audio = discard_audio

    async def __call__(self, event: ErasureRequested) -> Sequence[Output]:
        """Deletes everything about the call. Raises RetryLaterError while it is in progress."""
        try:
            await asyncio.to_thread(self._store.put, event)
            await asyncio.to_thread(self._check_ended, event)
            unreleased = await self._release_orders(event)
            await asyncio.to_thread(self._delete, event, unreleased)
        except StoreUnavailableError as error:
            raise RetryableError(str(error)) from error
        except LogUnavailableError as error:
            raise RetryableError(str(error)) from error
        except VectorStoreError as error:
            raise RetryableError(f"vector store: {error}") from error
        if unreleased:
            raise PermanentError(
                "everything here is deleted, but a provider may keep its copy of these orders: "
                f"{', '.join(unreleased.values())}. Set AUDIOTEXT_STT__PROVIDER and its API key as they were and "
                "request the erasure again, or delete the orders at the provider"
            )
        logger.info("call %s of %s was erased", event.call_id, event.tenant)
        erased = CallErased(
            event_id=uuid_of("call.erased", event.tenant, event.call_id),
            call_id=event.call_id,
            tenant=event.tenant,
            occurred_at_ms=time.time_ns() // 1_000_000,
        )
        return [Output(Topic.CALL_EVENTS, erased)]

    def _check_ended(self, event: ErasureRequested) -> None:
        """Raises RetryLaterError while the call is in progress."""
        call = self._calls.get_hidden_call(event.tenant, event.call_id)
        if call is None or _has_ended(call):
            return
        last_event_ms = max([call.started_at_ms, *(at for part in call.parts for at in part.times.values())])
        if time.time_ns() // 1_000_000 - last_event_ms < _IN_PROGRESS_MS:
            raise RetryLaterError(f"the call is still in progress ({call.status})", retry_after_s=_LOOK_AGAIN_S)

    async def _release_orders(self, event: ErasureRequested) -> dict[str, str]:
        """Deletes what a provider still keeps of the call's orders.

        Returns the orders that it cannot delete because their provider is not configured: by key of their record, the
        name to report.
        """
        unreleased: dict[str, str] = {}
        with translate_store_errors():
            prefix = job_records_prefix(event.tenant, event.call_id)
            keys = await asyncio.to_thread(lambda: list(self._objects.list(prefix)))
        for key in keys:
            record = await Document(self._objects, key, JobRecord).get()
            if record is None or record.order is None or record.order.state == "done":
                continue
            jobs = await asyncio.to_thread(self._remote_jobs)
            if jobs is None:
                unreleased[key] = record.order.remote_id or f"the one of job {PurePosixPath(key).stem}"
            elif remote_id := record.order.remote_id or await jobs.find(PurePosixPath(key).stem):
                await jobs.release(remote_id)
        return unreleased

    def _delete(self, event: ErasureRequested, kept: Collection[str]) -> None:
        """Deletes everything here. kept: keys of records that a repeated erasure needs to find orders at a provider."""
        letters = self._calls.dead_letters(event.tenant, event.call_id)
        kept_by_recorder = [letter for letter in letters if letter.stage == RECORDER.group]
        if kept_by_recorder:
            self._discard_audio(kept_by_recorder)
        self._vectors.delete_call(event.tenant, event.call_id)
        with translate_store_errors():
            for key in list(self._objects.list(call_prefix(event.tenant, event.call_id))):
                if key not in kept:
                    self._objects.remove(key)
        # Last: as long as its events are stored, they show whether the call is in progress.
        self._store.delete_call(event.tenant, event.call_id)


class LateResultEraser:
    """Requests another erasure when an event arrives for a call that was erased.

    The event's result may have been stored after the erasure ran. Invoked with events that are stored, so that the
    erasure deletes those, too. request: publishes requests.
    """

    def __init__(self, calls: CallStore, request: Callable[[Sequence[ErasureRequested]], None]) -> None:
        self._calls = calls
        self._request = request

    def __call__(self, events: Sequence[Event]) -> None:
        """Requests the erasures. Raises StoreUnavailableError, LogUnavailableError."""
        of_calls = {(event.tenant, event.call_id) for event in events if _may_leave_something(event)}
        erased = self._calls.find_erased(sorted(of_calls))
        if erased:
            self._request([requested(tenant, call_id) for tenant, call_id in sorted(erased)])


def _may_leave_something(event: Event) -> bool:
    match event:
        case ErasureRequested() | CallErased() | ReplayCommand():
            return False
        case StageFailed():
            return event.stage != ERASE.group  # else a failed erasure would request itself forever
        case ReplayedPart():
            return event.outcome != "skipped"
    return True


def _has_ended(call: CallDoc) -> bool:
    """True if no more events are expected for the call. The failure of one part says nothing about the others."""
    if call.status == "failed":
        return call.ended_at_ms is not None and all(part.status in ("complete", "failed") for part in call.parts)
    return call.status == "complete"


def requested(tenant: str, call_id: str) -> ErasureRequested:
    """Returns the request to erase a call. It has the same id every time."""
    return ErasureRequested(
        event_id=uuid_of("erasure.requested", tenant, call_id),
        call_id=call_id,
        tenant=tenant,
        occurred_at_ms=time.time_ns() // 1_000_000,
    )
