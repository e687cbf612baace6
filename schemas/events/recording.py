"""Event of the recorder: a recording is finished."""

from typing import Any, Literal

from pydantic import Field

from schemas.events.base import Event, Frozen, ObjectRef


class Gap(Frozen):
    """Missing audio in a track, silent in the recording. Times in ms from the recording's start."""

    start_ms: int
    end_ms: int
    reason: str


class TrackReport(Frozen):
    """One direction of the call. audio_ms: audio that arrived; compare it with the recording's duration.

    mixed_ms: audio of several simultaneous streams of this direction, which were mixed.
    """

    name: str
    audio_ms: int
    gaps: list[Gap] = Field(default_factory=list)
    mixed_ms: int = 0


def _total_gap_ms(track: dict[str, Any]) -> int:
    return sum(gap.end_ms - gap.start_ms for gap in track.get("gaps", ()))


class TrackOutline(TrackReport):
    """Track in an event. `gaps` has only the longest gaps, to bound the event's size; the manifest has all gaps.

    gaps_left_out: number of the other gaps. missing_ms: sum of all gaps.
    """

    gaps_left_out: int = 0
    missing_ms: int = Field(default_factory=_total_gap_ms)  # older events lack the field and have all gaps


class RecordingReady(Event):
    """A finished recording is in S3, uploaded and verified.

    audio: 16-bit PCM WAV, two channels (inbound left, outbound right). started_at_ms, ended_at_ms: wall clock of the
    call's first stream start and last stream end (ms since the epoch). close_reason: schemas.media.CloseReason.
    """

    type: Literal["recording.ready"] = "recording.ready"
    carrier: str
    audio: ObjectRef
    peaks: ObjectRef
    manifest: ObjectRef
    duration_ms: int
    rate_hz: int
    channels: int = 2
    tracks: list[TrackOutline]
    started_at_ms: int
    ended_at_ms: int
    close_reason: str
