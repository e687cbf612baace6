"""What the API answers about versions and replays; see api.models."""

from pydantic import Field

from api.models import Body
from api.params import WHEN, FromMs, ToMs
from pipelines.replay.estimate import Estimate
from pipelines.replay.transcript_diff import Change
from schemas.events import ReplayOverrides, ReplayStage
from sinks.clickhouse.call_projection import Status
from sinks.clickhouse.replay_projection import State
from sinks.clickhouse.result_versions import Result


class VersionItem(Body):
    """What was made of a part with certain settings. `of` is `transcript` or `summary`; `current`: it is the one that
    counts. `replay_id`: the replay that made it, "" for what was made as the call came in."""

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


class VersionList(Body):
    """A call's versions, by part, transcripts first, oldest first."""

    call_id: str
    versions: list[VersionItem]


class VersionComparison(Body):
    """How the transcript `after` differs from `before`, as if that were the truth. Times in ms from the recording's
    start; upper and lower case and punctuation do not count."""

    call_id: str
    before: VersionItem
    after: VersionItem
    words_before: int
    words_after: int
    replaced: int
    deleted: int
    inserted: int
    word_error_rate: float
    changes: list[Change]


class ReplayRequest(Body):
    """Which calls to process again, from which stage on, and with what other settings.

    The stage is what is read again: `media` the audio on the log, `recording` the recording (to transcribe it),
    `transcript` the transcript (for summary and embedding), `summary` and `embedding` the transcript for that alone.
    """

    stage: ReplayStage
    calls: list[str] = Field([], max_length=10_000, description="Call ids. Without, the filters say which calls.")
    tenant: str | None = Field(None, description="Only this tenant's calls; for keys that see every tenant.")
    since: FromMs | None = Field(None, alias="from", description=f"Only calls that started then or later. {WHEN}")
    until: ToMs | None = Field(None, alias="to", description=f"Only calls that started before. {WHEN}")
    status: Status | None = Field(None, description="Only calls in this status.")
    failed: bool = Field(False, description="Only calls that failed: short for `status`.")
    query: str | None = Field(None, max_length=500, description="Only calls whose id or numbers contain this text.")
    provider: str | None = Field(None, description="Another provider for the first engine that is asked again.")
    model: str | None = Field(None, description="Another model of it.")
    language: str | None = Field(None, description="The language spoken, ISO 639-1, for transcribing.")
    prompt: str | None = Field(None, max_length=20_000, description="Another prompt for the summary.")
    dry_run: bool = Field(False, description="Only say what it would do and cost.")


class FailedPart(Body):
    """A part that a replay gave up on or left out, and why."""

    call_id: str
    part: int
    outcome: str
    reason: str


class ReplayItem(Body):
    """A replay. `parts` of calls, of which `done`, `failed` and `skipped` are through. `state` is `running`, `stopped`
    or `done`; `per_minute`, `eta_s`: parts at the rate of the last minute, and how long the rest takes at that. Times
    in ms since the epoch. `tenant` is "" if it was asked for with a key that sees every tenant."""

    id: str
    tenant: str
    state: State
    stage: ReplayStage
    overrides: ReplayOverrides
    parts: int
    done: int
    failed: int
    skipped: int
    duration_ms: int
    requested_at_ms: int
    finished_at_ms: int | None
    per_minute: float
    eta_s: int | None
    run: int


class Replay(ReplayItem):
    """A replay, the parts it could not do, and what it found out about others."""

    notes: list[FailedPart]


class ReplayList(Body):
    """Replays, newest first."""

    replays: list[ReplayItem]


class ReplayAnswer(Body):
    """What was asked for: the replay, null after a dry run, and what it does and costs."""

    id: str | None
    replay: ReplayItem | None
    estimate: Estimate
