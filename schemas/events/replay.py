"""Events of replays: commands, jobs and outcomes."""

from typing import Literal

from schemas.events.base import Event, Frozen, ObjectRef
from schemas.events.recording import RecordingReady
from schemas.events.results import TranscriptReady

ReplayStage = Literal["media", "recording", "transcript", "summary", "embedding"]


class ReplayOverrides(Frozen):
    """Settings that a replay overrides; None = not overridden.

    provider, model, language: of the first engine of the replay; prompt: of the summary.
    """

    provider: str | None = None
    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class ReplayCommand(Event):
    """Command to start, stop or resume a replay. Each command contains the complete replay.

    call_id: the replay's id, which keeps its commands in order. tenant: tenant of the requesting key; "" = a key that
    sees every tenant. run: the run that is stopped or begins; the first is 1. stage: where to start. plan: the parts
    (schemas.artifacts.ReplayPlan); parts, duration_ms: their number and their audio. keep_current: True keeps the
    current versions; otherwise the replay's results become current.
    """

    type: Literal["replay.command"] = "replay.command"
    action: Literal["start", "stop", "resume"]
    run: int = 1
    stage: ReplayStage
    overrides: ReplayOverrides = ReplayOverrides()
    plan: ObjectRef
    parts: int
    duration_ms: int
    keep_current: bool = False


class ReplayInput(Frozen):
    """Part to process again, as it was when its replay reached it. note: remark on the part so far."""

    recording: RecordingReady | None = None
    transcript: TranscriptReady | None = None
    note: str = ""


class ReplayJob(Event):
    """Job of a replay: some parts of its plan. run: the job is void when this run is stopped."""

    type: Literal["replay.job"] = "replay.job"
    stage: ReplayStage
    overrides: ReplayOverrides = ReplayOverrides()
    run: int
    inputs: list[ReplayInput]
    keep_current: bool = False


class ReplayedPart(Event):
    """Outcome of a part in a replay, or its begin.

    note: the reason, or a deviation from the request. run: the replay's run. stage: the failed stage of a failed part.
    transcript_id, summary_id: versions that the replay made or found for a done part. reused: True if all results
    existed before. switched: True if another version is current now.
    """

    type: Literal["replay.part"] = "replay.part"
    outcome: Literal["done", "failed", "skipped", "begun"]
    note: str = ""
    run: int = 1
    stage: str = ""
    transcript_id: str = ""
    summary_id: str = ""
    reused: bool = False
    switched: bool = False
