"""One attempt at a stage's work, and what goes on the log about it: from records to jobs to events. Pure."""

from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from pipelines.runtime.retry import classify, describe
from schemas.events import Event, RetryScheduled, StageFailed, payload_of
from schemas.ids import uuid_of


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One attempt: the input event's JSON, and where it stood on the log first.

    attempts: failed so far. due_at_ms: not before this time (ms since the epoch).
    """

    stage: str
    payload: str
    attempts: int
    due_at_ms: int
    origin_topic: str
    origin_partition: int
    origin_offset: int

    def scheduled(self, event: Event, error: BaseException, *, attempts: int, now_ms: int, delay_s: float) -> Event:
        """The record on the retry topic that makes the job due again."""
        return RetryScheduled(
            event_id=self._event_id("retry", attempts),
            call_id=event.call_id,
            tenant=event.tenant,
            part=event.part,
            occurred_at_ms=now_ms,
            stage=self.stage,
            attempts=attempts,
            due_at_ms=now_ms + round(delay_s * 1000),
            error=describe(error),
            origin_topic=self.origin_topic,
            origin_partition=self.origin_partition,
            origin_offset=self.origin_offset,
            payload=self.payload,
        )

    def failed(
        self, error: BaseException, *, attempts: int, now_ms: int, call_id: str, tenant: str = "", part: int = 1
    ) -> Event:
        """The dead letter. tenant is "" where the payload is no event that could tell."""
        return StageFailed(
            event_id=self._event_id("failed", 0),
            call_id=call_id,
            tenant=tenant,
            part=part,
            occurred_at_ms=now_ms,
            stage=self.stage,
            error_class=classify(error),
            error=describe(error),
            attempts=attempts,
            origin_topic=self.origin_topic,
            origin_partition=self.origin_partition,
            origin_offset=self.origin_offset,
            payload=payload_of(self.payload),
        )

    def _event_id(self, kind: str, attempts: int) -> str:
        return uuid_of(kind, self.stage, self.origin_topic, self.origin_partition, self.origin_offset, attempts)


def job_of(stage: str, retry_topic: str, *, topic: str, partition: int, offset: int, value: str) -> JobAttempt:
    """The job in a record of the stage's source or retry topic."""
    if topic == retry_topic:
        with suppress(ValidationError):  # not written by this runtime: it will turn out to be no event either
            again = RetryScheduled.model_validate_json(value)
            return JobAttempt(
                stage,
                again.payload,
                again.attempts,
                again.due_at_ms,
                again.origin_topic,
                again.origin_partition,
                again.origin_offset,
            )
    return JobAttempt(stage, value, 0, 0, topic, partition, offset)
