"""One attempt at a stage's job, and the events that record its failure. Pure."""

from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from pipelines.runtime.retry import classify, describe
from schemas.events import Event, RetryScheduled, StageFailed, payload_of
from schemas.ids import uuid_of


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One attempt at a job.

    Attributes:
        stage: Name of the stage.
        payload: JSON of the input event.
        attempts: Attempts that have failed so far.
        due_at_ms: Earliest start of this attempt (ms since the epoch).
        origin_topic: Topic on which the event first arrived.
        origin_partition: Its partition there.
        origin_offset: Its offset there.
    """

    stage: str
    payload: str
    attempts: int
    due_at_ms: int
    origin_topic: str
    origin_partition: int
    origin_offset: int

    def retry_event(self, event: Event, error: BaseException, *, attempts: int, now_ms: int, delay_s: float) -> Event:
        """Returns the event for the retry topic that schedules the job again."""
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

    def dead_letter(
        self, error: BaseException, *, attempts: int, now_ms: int, call_id: str, tenant: str = "", part: int = 1
    ) -> Event:
        """Returns the dead letter. tenant: "" if the payload is not a valid event, so that the tenant is unknown."""
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


def attempt_from_record(
    stage: str, retry_topic: str, *, topic: str, partition: int, offset: int, value: str
) -> JobAttempt:
    """Returns the attempt that a record of the stage's source or retry topic asks for."""
    if topic == retry_topic:
        with suppress(ValidationError):  # not written by this runtime; its payload will not parse as an event either
            scheduled = RetryScheduled.model_validate_json(value)
            return JobAttempt(
                stage,
                scheduled.payload,
                scheduled.attempts,
                scheduled.due_at_ms,
                scheduled.origin_topic,
                scheduled.origin_partition,
                scheduled.origin_offset,
            )
    return JobAttempt(stage, value, 0, 0, topic, partition, offset)
