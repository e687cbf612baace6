"""Speech to text that costs money per order: every job is ordered once, whatever process is killed and whenever.

The order of writes keeps that promise: claim, order at the provider, its id, charge and result, deletion at the
provider, each durable before the next. The next attempt finds a crash between any two of them in the job's record, or
by querying the provider for the job's key.

| a crash after | leaves | the next attempt |
|---|---|---|
| the upload | an upload without an order | uses it; the clean-up deletes unused ones after an hour |
| the claim | a claimed order | queries the provider, and orders once the window is over |
| the order | the same, and an order at the provider | finds the order by the job's key and records its id |
| the order's id | a submitted order | collects the result |
| the charge | the same | collects the result; the stored charge stands |
| the result | a submitted order with a result | releases the order |
| the release | the same | releases once more, which changes nothing |
"""

import asyncio
import logging
import uuid
from dataclasses import dataclass

from core.clock import Clock, SystemClock
from pipelines.jobs.completion_listener import CompletionListener
from pipelines.jobs.documents import Document
from pipelines.jobs.job_record import JobDocument
from pipelines.jobs.order_record import AdoptOrder, OrderRecord, PlaceOrder, PollResult, WaitForLease, next_action
from pipelines.jobs.provider_cleanup import ProviderCleanup
from pipelines.providers.base import Bill, RemoteJobGoneError, RemoteJobs, Transcription, TranscriptionJob
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
    """Durations in seconds.

    order_s: how long after claiming an order its worker may still place it. settle_s: how long beyond that others wait:
    it covers clocks that differ and a provider that shows an order late. poll_s: the pause after the first look at a
    result; each later one is half as long again, up to slowest_poll_s, or notified_poll_s where the provider sends a
    notice (which may get lost). cleanup_s: between two clean-ups at the provider.
    """

    order_s: float = 30.0
    settle_s: float = 30.0
    poll_s: float = 2.0
    slowest_poll_s: float = 15.0
    notified_poll_s: float = 60.0
    cleanup_s: float = 3_600.0


class RemoteTranscription:
    """Orders jobs at a provider, collects their results and deletes them there."""

    def __init__(
        self,
        jobs: RemoteJobs,
        objects: ObjectStore,
        timing: Timing | None = None,
        clock: Clock | None = None,
        notices: CompletionListener | None = None,
    ) -> None:
        """Connects to nothing. notices: receives the provider's notices of finished orders, if it sends any."""
        self._jobs = jobs
        self._timing = timing or Timing()
        self._clock = clock or SystemClock()
        self._notices = notices
        self._cleanup = ProviderCleanup(jobs, objects)
        self._cleaned_up_s: float | None = None

    async def transcribe(
        self, job: TranscriptionJob, record: JobDocument, result: Document[Transcript]
    ) -> Transcription:
        """Returns the job's transcript and bill; orders it unless it is ordered. Raises pipelines.runtime.errors.

        The caller has found no result, stores this one, and then invokes `release`.
        """
        try:
            remote_id = await self._ordered(job, record, result)
        except QuotaError as error:
            if deleted := await self._cleanup.run():
                raise RetryLaterError(
                    f"{error}; freed space there (orders deleted: {deleted})", retry_after_s=0
                ) from error
            raise
        try:
            transcript = await self._collected(remote_id, job)
        except RemoteJobGoneError:
            await self._check_result_is_missing(job, result)
            await self._forget(record, remote_id)
            raise
        return Transcription(transcript, await self._bill(remote_id))

    async def release(self, record: JobDocument) -> None:
        """Deletes what the provider keeps of a job whose result is stored.

        A provider that fails is no reason to hold the result back: the order is marked to be released later. Raises
        RetryableError if object storage is unreachable, since otherwise nothing would name that order any more.
        """
        order = (await record.known()).order
        if order is None or order.state != "submitted":
            return
        try:
            await self._jobs.release(order.remote_id)
        except StageError as error:
            logger.warning("%s still keeps order %s, deleting it later: %s", self._jobs.name, order.remote_id, error)
            await self._cleanup.release_later(order.remote_id)
            self._cleaned_up_s = None  # with the next job
            return
        await record.replace_order(order.model_copy(update={"state": "done"}), replaces=order)
        await self._clean_up_periodically()

    async def _collected(self, remote_id: str, job: TranscriptionJob) -> Transcript:
        """Waits for the result."""
        poll_s = self._timing.poll_s
        slowest_s = self._timing.notified_poll_s if self._notices else self._timing.slowest_poll_s
        while True:
            wait_s = poll_s
            try:
                if (transcript := await self._jobs.result(remote_id, job)) is not None:
                    return transcript
            except RetryableError as error:
                # Polled too often: the job is paid for, so this is not a failed attempt.
                if not error.refused or isinstance(error, ProviderOutageError):
                    raise
                wait_s = max(poll_s, error.retry_after_s or 0)
            if self._notices:
                await self._notices.wait(remote_id, wait_s)
            else:
                await self._clock.sleep(wait_s)
            poll_s = min(poll_s * 1.5, slowest_s)

    async def _bill(self, remote_id: str) -> Bill | None:
        """Returns what the provider charges; None if it does not say. The settings have a rate for that case."""
        try:
            return await self._jobs.bill(remote_id)
        except StageError as error:
            logger.warning("%s did not say what order %s costs: %s", self._jobs.name, remote_id, error)
            return None

    async def _clean_up_periodically(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._cleaned_up_s is None or now_s - self._cleaned_up_s >= self._timing.cleanup_s:
            self._cleaned_up_s = now_s
            await self._cleanup.run()

    async def _ordered(self, job: TranscriptionJob, record: JobDocument, result: Document[Transcript]) -> str:
        """Returns the provider's id of the order."""
        while True:
            order = (await record.known()).order
            asked_ms = self._clock.now_ms()
            found = await self._jobs.find(job.key) if order is not None and order.state == "claimed" else None
            match next_action(order, found, asked_ms):
                case PollResult(remote_id):
                    return remote_id
                case AdoptOrder(remote_id):
                    logger.info("%s has an order of call %s already: %s", self._jobs.name, job.call_id, remote_id)
                    await record.change(lambda job, remote_id=remote_id: job.with_submitted(remote_id))  # type: ignore[misc]
                case WaitForLease(seconds):
                    raise RetryLaterError(
                        f"another worker may be ordering call {job.call_id} at {self._jobs.name}", retry_after_s=seconds
                    )
                case PlaceOrder():
                    # Before the claim: an upload may take longer than the window for ordering.
                    prepared = await self._jobs.prepare(job)
                    claim = self._new_claim()
                    claimed = await record.replace_order(claim, replaces=order)
                    if not claimed or order is not None:
                        # The result may be stored although neither the record nor the provider knew of an order.
                        await self._check_result_is_missing(job, result, prepared)
                    if claimed:
                        return await self._place(job, prepared, record, claim)

    def _new_claim(self) -> OrderRecord:
        window_s = self._timing.order_s + self._timing.settle_s
        return OrderRecord(
            state="claimed", token=uuid.uuid4().hex, expires_at_ms=self._clock.now_ms() + round(window_s * 1000)
        )

    async def _place(self, job: TranscriptionJob, prepared: str, record: JobDocument, claim: OrderRecord) -> str:
        """Places the order that the claim allows. Returns the provider's id."""
        # Checked last: a process may have been frozen for long at any line above.
        left_s = (claim.expires_at_ms - self._clock.now_ms()) / 1000 - self._timing.settle_s
        if left_s <= 0:
            raise RetryLaterError(
                f"the time to order call {job.call_id} is over, the order is placed with a new claim",
                retry_after_s=self._timing.settle_s + left_s,
            )
        try:
            async with asyncio.timeout(left_s):
                remote_id = await self._jobs.submit(job, prepared)
        except (PermanentError, QuotaError):
            await self._reopen(record, claim)
            raise
        except RetryableError as error:
            if error.refused:
                await self._reopen(record, claim)
            raise
        await record.change(lambda job: job.with_submitted(remote_id))
        return remote_id

    async def _check_result_is_missing(
        self, job: TranscriptionJob, result: Document[Transcript], prepared: str = ""
    ) -> None:
        """Raises RetryLaterError if the result was stored since the caller looked: the next attempt finds it.

        The audio that was prepared meanwhile is deleted, since the order that needed it may be released already.
        """
        if await result.get() is not None:
            if prepared:
                await self._jobs.withdraw(prepared)
            raise RetryLaterError(f"another worker has stored the result of call {job.call_id}", retry_after_s=0)

    async def _forget(self, record: JobDocument, remote_id: str) -> None:
        """Allows another order after the provider has lost this one."""
        await record.get()
        order = (await record.known()).order
        if order is not None and order.state != "claimed" and order.remote_id == remote_id:
            await self._reopen(record, order)

    @staticmethod
    async def _reopen(record: JobDocument, order: OrderRecord) -> None:
        """Allows any worker to order at once: nothing was ordered under this record."""
        await record.replace_order(OrderRecord(state="claimed", token=uuid.uuid4().hex), replaces=order)
