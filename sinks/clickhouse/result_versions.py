"""Versions of a part's results: what was made of it with different settings lies side by side, and one counts. Pure.

The last version counts, unless another one was chosen after it, or a replay made it and was to keep the current one.
All of these are events on the log, so every reader decides the same.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal, TypeVar

from schemas.events import AnyEvent, Event, Frozen, ObjectRef, SummaryReady, TranscriptReady, VersionChosen

Result = Literal["transcript", "summary"]

R = TypeVar("R", bound=TranscriptReady | SummaryReady)


class VersionDoc(Frozen):
    """A version of a part's transcript or summary.

    version_id: what names it. transcript_id: of a summary, the transcript it was made of; of a transcript itself.
    made_at_ms: ms since the epoch. replay_id: the replay that made it, "" for what was made as the call came in.
    current: whether it is the one that counts.
    """

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
    object: ObjectRef


def version_id(event: TranscriptReady | SummaryReady) -> str:
    """What names a version: its job's key."""
    return event.transcript_id if isinstance(event, TranscriptReady) else PurePosixPath(event.summary.key).stem


def current_transcript(told: Sequence[AnyEvent]) -> TranscriptReady | None:
    """The transcript that counts among a part's events, which are unique and in order."""
    return _current(told, [event for event in told if isinstance(event, TranscriptReady)], "transcript")


def current_summary(told: Sequence[AnyEvent], transcript: TranscriptReady | None) -> SummaryReady | None:
    """The summary that counts: of the transcript that does, or, as long as that has none, of any."""
    made = [event for event in told if isinstance(event, SummaryReady)]
    matching = [event for event in made if transcript and event.transcript_id == transcript.transcript_id]
    return _current(told, matching or made, "summary")


def versions(told: Sequence[AnyEvent]) -> list[VersionDoc]:
    """All versions among a part's events, which are unique and in order; transcripts first, oldest first."""
    transcript = current_transcript(told)
    summary = current_summary(told, transcript)
    transcripts = [event for event in told if isinstance(event, TranscriptReady)]
    summaries = [event for event in told if isinstance(event, SummaryReady)]
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


def _current(told: Sequence[Event], made: Sequence[R], of: Result) -> R | None:
    by_id = {version_id(event): event for event in made}
    counts: R | None = None
    for event in told:
        if isinstance(event, VersionChosen):
            if event.of == of:
                counts = by_id.get(event.version_id, counts)
        elif (one := next((one for one in made if one is event), None)) and (counts is None or not one.keep_current):
            counts = one
    return counts
