"""What is made of a replay's events: who a part is, and what became of it. Pure."""

from collections.abc import Sequence

from pydantic import ValidationError

from schemas.events import RecordingReady, ReplayedPart, ReplayInput, ReplayJob, StageFailed, TranscriptReady
from schemas.ids import uuid_of

STAGE = "replay"  # consumer group of the replays' jobs, and their name in dead letters


def subject(part: ReplayInput) -> RecordingReady | TranscriptReady:
    """The event that says whose part it is. Raises ValueError for an input without any."""
    event = part.recording or part.transcript
    if event is None:
        raise ValueError("a part of a replay without recording and transcript")
    return event


def outcome(
    replay_id: str, tenant: str, call_id: str, part: int, at_ms: int, *, outcome: str, note: str = ""
) -> ReplayedPart:
    """What became of a part. It has one id whatever became of it, so that a part counts once."""
    return ReplayedPart.model_validate(
        {
            "event_id": uuid_of("replay.part", replay_id, tenant, call_id, part),
            "call_id": call_id,
            "tenant": tenant,
            "part": part,
            "occurred_at_ms": at_ms,
            "replay_id": replay_id,
            "outcome": outcome,
            "note": note,
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
        )
        for event in told
    ]
