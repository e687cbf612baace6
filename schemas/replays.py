"""Helpers for a replay's events: the call of a part, and its outcome. Pure."""

from collections.abc import Sequence

from pydantic import ValidationError

from schemas.events import (
    RecordingReady,
    ReplayedPart,
    ReplayInput,
    ReplayJob,
    ReplayStage,
    StageFailed,
    TranscriptReady,
)
from schemas.ids import uuid_of

# The live stages whose work a replay repeats, by the stage from which it starts.
WORK: dict[ReplayStage, frozenset[str]] = {
    "media": frozenset({"transcribe", "summarize", "embed"}),
    "recording": frozenset({"transcribe", "summarize", "embed"}),
    "transcript": frozenset({"summarize", "embed"}),
    "summary": frozenset({"summarize"}),
    "embedding": frozenset({"embed"}),
}


def subject(part: ReplayInput) -> RecordingReady | TranscriptReady:
    """Returns the event that identifies the part. Raises ValueError for an input without an event."""
    event = part.recording or part.transcript
    if event is None:
        raise ValueError("the part of a replay has neither a recording nor a transcript")
    return event


def outcome(
    replay_id: str, tenant: str, call_id: str, part: int, at_ms: int, *, outcome: str, **more: str | int | bool
) -> ReplayedPart:
    """Returns the event of a part in a replay. more: other fields of ReplayedPart.

    The event's id does not depend on the outcome, so that a part counts once.
    """
    return ReplayedPart.model_validate(
        {
            "event_id": uuid_of("replay.part", replay_id, tenant, call_id, part),
            "call_id": call_id,
            "tenant": tenant,
            "part": part,
            "occurred_at_ms": at_ms,
            "replay_id": replay_id,
            "outcome": outcome,
            **more,
        }
    )


def failed_parts(letter: StageFailed) -> Sequence[ReplayedPart]:
    """Returns the failed parts in a dead letter of the replay stage; empty if its payload is not a job."""
    try:
        job = ReplayJob.model_validate_json(letter.payload)
    except ValidationError:
        return ()
    subjects = [subject(part) for part in job.inputs if part.recording or part.transcript]
    return [
        outcome(
            job.replay_id,
            event.tenant,
            event.call_id,
            event.part,
            letter.occurred_at_ms,
            outcome="failed",
            note=letter.error,
            run=job.run,
        )
        for event in subjects
    ]
