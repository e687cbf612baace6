"""erasure.requests → nothing left of a call but its lines of the bill, and call.erased.

The request hides the call at once. What is under way is let come to its end first, as far as it can be known; then
everything is deleted, each of it in a way that can be done again. What comes later all the same (a replay that was at
it, a retry, a stream of the same call) is told of like everything, and whoever keeps what is told asks for the call to
be erased again.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from pipelines.jobs.documents import translate_store_errors
from pipelines.jobs.order_record import OrderStore
from pipelines.providers.base import RemoteJobs
from pipelines.runtime.errors import PermanentError, RetryableError, RetryLaterError
from pipelines.runtime.stage import Output
from schemas.artifacts import call_prefix
from schemas.events import CallErased, ErasureRequested, Event, ReplayCommand, ReplayedPart, StageFailed
from schemas.ids import uuid_of
from schemas.topics import Topic
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore, VectorStoreError

log = logging.getLogger(__name__)

NAME = "erase"
_LOOK_AGAIN_S = 10.0
# A call of which nothing was heard for so long is not under way, whatever its status: its stage may be switched off.
_PATIENCE_MS = 86_400_000
_INTENT = ".intent.json"


class EraseHandler:
    """The work on one request.

    remote_jobs: gives the provider that keeps orders' audio and text, if one is configured; it is asked only if there
    are such orders.
    """

    def __init__(
        self,
        calls: CallStore,
        store: ReplayStore,
        objects: ObjectStore,
        vectors: VectorStore,
        remote_jobs: Callable[[], RemoteJobs | None],
    ) -> None:
        self._calls = calls
        self._store = store
        self._objects = objects
        self._vectors = vectors
        self._remote_jobs = remote_jobs

    async def __call__(self, event: ErasureRequested) -> Sequence[Output]:
        """Deletes everything about the call. Raises pipelines.runtime.errors; NotYetError while it is under way."""
        try:
            await asyncio.to_thread(self._store.put, event)
            await asyncio.to_thread(self._check_through, event)
            await self._from_provider(event)
            await asyncio.to_thread(self._delete, event)
        except StoreUnavailableError as error:
            raise RetryableError(str(error)) from error
        except VectorStoreError as error:
            raise RetryableError(f"vector store: {error}") from error
        log.info("call %s of %s is erased", event.call_id, event.tenant)
        erased = CallErased(
            event_id=uuid_of("call.erased", event.tenant, event.call_id),
            call_id=event.call_id,
            tenant=event.tenant,
            occurred_at_ms=time.time_ns() // 1_000_000,
        )
        return [Output(Topic.CALL_EVENTS, erased)]

    def _check_through(self, event: ErasureRequested) -> None:
        """Raises NotYetError while the call is under way."""
        call = self._calls.get_hidden_call(event.tenant, event.call_id)
        if call is None or _is_through(call):
            return
        heard_ms = max([call.started_at_ms, *(at for part in call.parts for at in part.times.values())])
        if time.time_ns() // 1_000_000 - heard_ms < _PATIENCE_MS:
            raise RetryLaterError(f"the call is {call.status}", retry_after_s=_LOOK_AGAIN_S)

    async def _from_provider(self, event: ErasureRequested) -> None:
        """Deletes what a provider still keeps of the call's orders."""
        with translate_store_errors():
            keys = await asyncio.to_thread(self._keys, event)
        for key in keys:
            if not key.endswith(_INTENT):
                continue
            stored = await OrderStore(self._objects, key).read()
            if stored is None or stored.intent.state == "done":
                continue
            jobs = await asyncio.to_thread(self._remote_jobs)
            if jobs is None:
                raise PermanentError(
                    f"a provider may keep what {key} names, and none is configured that could be asked"
                )
            transcript_id = PurePosixPath(key).name.removesuffix(_INTENT)
            remote_id = stored.intent.remote_id or await jobs.find(transcript_id)
            if remote_id:
                await jobs.release(remote_id)

    def _delete(self, event: ErasureRequested) -> None:
        self._vectors.delete_call(event.tenant, event.call_id)
        with translate_store_errors():
            for key in self._keys(event):
                self._objects.remove(key)
        # Last: as long as its events are there, a look at the call tells whether something is under way.
        self._store.delete_call(event.tenant, event.call_id)

    def _keys(self, event: ErasureRequested) -> list[str]:
        return list(self._objects.list(call_prefix(event.tenant, event.call_id)))


class LateResultEraser:
    """Has calls erased once more of which something was told after they were erased, or asked to be: what is told has
    been stored before, and may have been stored too late for the erasure that was asked for.

    tell: puts requests on the log. Called with events once they are kept, so that the erasure deletes those, too.
    """

    def __init__(self, calls: CallStore, tell: Callable[[Sequence[ErasureRequested]], None]) -> None:
        self._calls = calls
        self._tell = tell

    def __call__(self, events: Sequence[Event]) -> None:
        """Raises StoreUnavailableError, LogUnavailableError."""
        of_calls = {(event.tenant, event.call_id) for event in events if _may_leave_something(event)}
        erased = self._calls.find_erased(sorted(of_calls))
        if erased:
            self._tell([requested(tenant, call_id) for tenant, call_id in sorted(erased)])


def _may_leave_something(event: Event) -> bool:
    match event:
        case ErasureRequested() | CallErased() | ReplayCommand():
            return False
        case StageFailed():
            return event.stage != NAME  # or an erasure that failed would ask for itself, for ever
        case ReplayedPart():
            return event.outcome != "skipped"
    return True


def _is_through(call: CallDoc) -> bool:
    """Whether nothing more is to be expected of the call. One part's failure says nothing of the others."""
    if call.status == "failed":
        return call.ended_at_ms is not None and all(part.status in ("complete", "failed") for part in call.parts)
    return call.status == "complete"


def requested(tenant: str, call_id: str) -> ErasureRequested:
    """The request to erase a call. Told again it is the same."""
    return ErasureRequested(
        event_id=uuid_of("erasure.requested", tenant, call_id),
        call_id=call_id,
        tenant=tenant,
        occurred_at_ms=time.time_ns() // 1_000_000,
    )
