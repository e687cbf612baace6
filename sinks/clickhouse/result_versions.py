"""Versions of a part's results: results of different settings exist side by side, and one is current. Pure.

The last version is current, unless another version was chosen after it, or a replay made it with the option to keep the
current version. All of these are events on the log, so every reader decides the same.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal, TypeVar

from schemas.events import AnyEvent, Event, Frozen, ObjectRef, SummaryReady, TranscriptReady, VersionChosen

Result = Literal["transcript", "summary"]

R = TypeVar("R", bound=TranscriptReady | SummaryReady)


class Version(Frozen):
    """Version of a part's transcript or summary; api.replay_models.VersionItem describes the fields."""

    of: Result
    part: int
    version_id: str
    transcript_id: str
    current: bool
    provider: str
    model: str
    language: str | None
    config_hash: str
    made_at_ms: int
    replay_id: str


class VersionDoc(Version):
    """Version, and its object in S3."""

    object: ObjectRef


def version_id(event: TranscriptReady | SummaryReady) -> str:
    """Returns the id of a version: the key of its job."""
    return event.transcript_id if isinstance(event, TranscriptReady) else PurePosixPath(event.summary.key).stem


def current_transcript(events: Sequence[AnyEvent]) -> TranscriptReady | None:
    """Returns the current transcript among a part's events, which must be unique and in order."""
    return _current(events, [event for event in events if isinstance(event, TranscriptReady)], "transcript")


def current_summary(events: Sequence[AnyEvent], transcript: TranscriptReady | None) -> SummaryReady | None:
    """Returns the current summary: one of the current transcript or, if that has no summary, of any transcript."""
    made = [event for event in events if isinstance(event, SummaryReady)]
    matching = [event for event in made if transcript and event.transcript_id == transcript.transcript_id]
    return _current(events, matching or made, "summary")


def versions(events: Sequence[AnyEvent]) -> list[VersionDoc]:
    """Returns all versions among a part's events, which must be unique and in order.

    Transcripts come first, then summaries, each oldest first.
    """
    transcript = current_transcript(events)
    summary = current_summary(events, transcript)
    transcripts = [event for event in events if isinstance(event, TranscriptReady)]
    summaries = [event for event in events if isinstance(event, SummaryReady)]
    return [
        *(_version(event, "transcript", event is transcript) for event in transcripts),
        *(_version(event, "summary", event is summary) for event in summaries),
    ]


def _version(event: TranscriptReady | SummaryReady, of: Result, current: bool) -> VersionDoc:
    return VersionDoc(
        of=of,
        part=event.part,
        version_id=version_id(event),
        transcript_id=event.transcript_id,
        current=current,
        provider=event.provider,
        model=event.model,
        language=event.language if isinstance(event, TranscriptReady) else None,
        config_hash=event.config_hash,
        made_at_ms=event.occurred_at_ms,
        replay_id=event.replay_id,
        object=event.transcript if isinstance(event, TranscriptReady) else event.summary,
    )


def _current(events: Sequence[Event], made: Sequence[R], of: Result) -> R | None:
    by_id = {version_id(event): event for event in made}
    current: R | None = None
    for event in events:
        if isinstance(event, VersionChosen):
            if event.of == of:
                current = by_id.get(event.version_id, current)
        elif (one := next((one for one in made if one is event), None)) and (current is None or not one.keep_current):
            current = one
    return current
