"""What is made of a replay's events: who a part is, and what became of it. Pure."""

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

# The live stages whose work a replay does again, by the stage that it starts from.
WORK: dict[ReplayStage, frozenset[str]] = {
    "media": frozenset({"transcribe", "summarize", "embed"}),
    "recording": frozenset({"transcribe", "summarize", "embed"}),
    "transcript": frozenset({"summarize", "embed"}),
    "summary": frozenset({"summarize"}),
    "embedding": frozenset({"embed"}),
}

STAGE = "replay"  # consumer group of the replays' jobs, and their name in dead letters


def subject(part: ReplayInput) -> RecordingReady | TranscriptReady:
    """The event that says whose part it is. Raises ValueError for an input without any."""
    event = part.recording or part.transcript
    if event is None:
        raise ValueError("a part of a replay without recording and transcript")
    return event


def outcome(
    replay_id: str, tenant: str, call_id: str, part: int, at_ms: int, *, outcome: str, **more: str | int | bool
) -> ReplayedPart:
    """The event of a part in a replay. The id does not depend on the outcome, so that a part counts once. more: other
    fields of ReplayedPart."""
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


def given_up(letter: StageFailed) -> Sequence[ReplayedPart]:
    """The failed parts in a dead letter of the replays' own stage; none if its payload is no job."""
    try:
        job = ReplayJob.model_validate_json(letter.payload)
    except ValidationError:
        return ()
    told = [subject(part) for part in job.inputs if part.recording or part.transcript]
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
        for event in told
    ]
