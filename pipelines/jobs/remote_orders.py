"""Speech to text that costs money per order: every job is ordered once, whatever is killed and whenever.

The order of things is what keeps that promise: intent, order, its id, result, deletion at the provider, each durable
before the next. A crash between any two is found by the next attempt in the intent (pipelines.jobs.order_record) or
by asking
the provider for the job's key.
"""

import asyncio
import logging
import uuid
from dataclasses import dataclass

from core.clock import Clock, SystemClock
from pipelines.jobs import documents
from pipelines.jobs.completion_listener import CompletionListener
from pipelines.jobs.order_record import (
    AdoptOrder,
    OrderRecord,
    OrderStore,
    PlaceOrder,
    PollResult,
    StoredOrderRecord,
    WaitForLease,
    next_action,
)
from pipelines.jobs.provider_cleanup import PendingDeletions
from pipelines.providers.base import Bill, RemoteJobGoneError, RemoteJobs, TranscriptionJob
from pipelines.runtime.errors import (
    PermanentError,
    ProviderOutageError,
    QuotaError,
    RetryableError,
    RetryLaterError,
    StageError,
)
from schemas.artifacts import Transcript
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """order_s: how long after writing an intent its owner may still be ordering. settle_s: how long beyond that others
    wait: it covers clocks that differ and a provider that shows an order late. poll_s: between the first looks at a
    result; each later one is half as far again from the one before, up to slowest_poll_s, or told_poll_s where the
    provider tells when it is done, which it may forget. tidy_s: between looks for what it keeps and nobody needs."""

    order_s: float = 30.0
    settle_s: float = 30.0
    poll_s: float = 2.0
    slowest_poll_s: float = 15.0
    told_poll_s: float = 60.0
    tidy_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class ObjectKeys:
    """Keys of a job's objects: its intent and its result."""

    intent: str
    result: str


class RemoteTranscription:
    """Orders jobs at a provider, collects their results and cleans up after them."""

    def __init__(
        self,
        jobs: RemoteJobs,
        objects: ObjectStore,
        timing: Timing | None = None,
        clock: Clock | None = None,
        notices: CompletionListener | None = None,
    ) -> None:
        """notices: where is told that an order is done, if the provider does tell."""
        self._jobs = jobs
        self._objects = objects
        self._timing = timing or Timing()
        self._clock = clock or SystemClock()
        self._notices = notices
        self._leftovers = PendingDeletions(jobs, objects)
        self._tidied_s: float | None = None

    async def transcribe(self, job: TranscriptionJob, place: ObjectKeys) -> Transcript:
        """The job's transcript, ordered unless it is. The caller has seen that there is no result, stores it, and then
        calls `settle`. Raises pipelines.runtime.errors."""
        intents = OrderStore(self._objects, place.intent)
        try:
            remote_id = await self._ordered(job, place, intents)
        except QuotaError as error:
            if freed := await self._leftovers.delete():
                raise RetryLaterError(f"{error}; room was made there ({freed} deleted)", retry_after_s=0) from error
            raise
        try:
            return await self._collected(remote_id, job)
        except RemoteJobGoneError:
            await self._check_result_is_missing(job, place)
            await self._forget(intents, remote_id)
            raise

    async def _collected(self, remote_id: str, job: TranscriptionJob) -> Transcript:
        """The result, once it is there."""
        poll_s = self._timing.poll_s
        slowest_s = self._timing.told_poll_s if self._notices else self._timing.slowest_poll_s
        while True:
            wait_s = poll_s
            try:
                if (transcript := await self._jobs.result(remote_id, job)) is not None:
                    return transcript
            except RetryableError as error:
                # Asked too often: what is paid for is waited for, it is no failed attempt.
                if not error.refused or isinstance(error, ProviderOutageError):
                    raise
                wait_s = max(poll_s, error.retry_after_s or 0)
            if self._notices:
                await self._notices.wait(remote_id, wait_s)
            else:
                await self._clock.sleep(wait_s)
            poll_s = min(poll_s * 1.5, slowest_s)

    async def release(self, place: ObjectKeys) -> Bill | None:
        """Deletes what the provider keeps of a job whose result is stored, and gives what it charges, if it says so.
        A provider that does not is no reason to hold the result back: it is noted down, and tried again with the next
        jobs and before anything is given up for want of space. Raises RetryableError when object storage is away, since
        then nobody would know later that the provider keeps something."""
        intents = OrderStore(self._objects, place.intent)
        stored = await intents.read()
        if stored is None or stored.intent.state != "submitted":
            return stored.intent.bill if stored else None
        bill = None
        try:
            bill = await self._jobs.bill(stored.intent.remote_id)
            await self._jobs.release(stored.intent.remote_id)
            await intents.write(stored.intent.model_copy(update={"state": "done", "bill": bill}), replaces=stored)
            await self._delete_orphans_periodically()
        except StageError as error:
            logger.warning("%s still keeps what %s names: %s", self._jobs.name, place.intent, error)
            await self._leftovers.record(stored.intent.remote_id)
            self._tidied_s = None  # with the next job
        return bill

    async def _delete_orphans_periodically(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._tidied_s is None or now_s - self._tidied_s >= self._timing.tidy_s:
            self._tidied_s = now_s
            await self._leftovers.delete()

    async def _ordered(self, job: TranscriptionJob, place: ObjectKeys, intents: OrderStore) -> str:
        """The provider's id of the order."""
        while True:
            stored = await intents.read()
            unclear = stored is not None and stored.intent.state == "intended"
            asked_ms = self._clock.now_ms()
            found = await self._jobs.find(job.key) if unclear else None
            step = next_action(stored.intent if stored else None, found, asked_ms)
            match step:
                case PollResult(remote_id):
                    return remote_id
                case AdoptOrder(remote_id):
                    if await intents.write(OrderRecord(state="submitted", remote_id=remote_id), replaces=stored):
                        logger.info("%s has call %s as %s already", self._jobs.name, job.call_id, remote_id)
                        return remote_id
                case WaitForLease(seconds):
                    raise RetryLaterError(
                        f"an order of call {job.call_id} may be under way at {self._jobs.name}", retry_after_s=seconds
                    )
                case PlaceOrder():
                    # Before the intent: an upload may take longer than the window for ordering.
                    prepared = await self._jobs.prepare(job)
                    claimed = await intents.write(self._new_intent(), replaces=stored)
                    # Neither the intent nor the provider need have known of an order whose result is stored.
                    await self._check_result_is_missing(job, place, prepared)
                    if claimed:
                        return await self._order(job, prepared, intents, claimed)

    def _new_intent(self) -> OrderRecord:
        window_s = self._timing.order_s + self._timing.settle_s
        return OrderRecord(
            state="intended", token=uuid.uuid4().hex, expires_at_ms=self._clock.now_ms() + round(window_s * 1000)
        )

    async def _order(
        self, job: TranscriptionJob, prepared: str, intents: OrderStore, claimed: StoredOrderRecord
    ) -> str:
        """Places the order that the claimed intent allows."""
        # Looked at last: a process may have been frozen for long at any line above.
        left_s = (claimed.intent.expires_at_ms - self._clock.now_ms()) / 1000 - self._timing.settle_s
        if left_s <= 0:
            raise RetryLaterError(f"too late to order call {job.call_id}", retry_after_s=self._timing.settle_s + left_s)
        try:
            async with asyncio.timeout(left_s):
                remote_id = await self._jobs.submit(job, prepared)
        except (PermanentError, QuotaError):
            await self._reopen(intents, claimed)
            raise
        except RetryableError as error:
            if error.refused:
                await self._reopen(intents, claimed)
            raise
        await intents.write(OrderRecord(state="submitted", remote_id=remote_id), replaces=claimed)
        return remote_id

    async def _check_result_is_missing(self, job: TranscriptionJob, place: ObjectKeys, prepared: str = "") -> None:
        """Raises NotYetError if somebody has stored the result since the caller looked: the next attempt finds it. The
        audio that was prepared meanwhile is deleted, since nobody else does that once the order is released."""
        if await documents.get_result(self._objects, place.result, Transcript) is not None:
            if prepared:
                await self._jobs.withdraw(prepared)
            raise RetryLaterError(f"call {job.call_id} has its result meanwhile", retry_after_s=0)

    async def _forget(self, intents: OrderStore, remote_id: str) -> None:
        """The provider has lost an order: another may be placed."""
        stored = await intents.read()
        if stored is not None and stored.intent.state != "intended" and stored.intent.remote_id == remote_id:
            await self._reopen(intents, stored)

    @staticmethod
    async def _reopen(intents: OrderStore, stored: StoredOrderRecord) -> None:
        """Nothing was ordered under this intent: whoever comes next may."""
        await intents.write(OrderRecord(state="intended", token=uuid.uuid4().hex), replaces=stored)
