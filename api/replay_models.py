"""Bodies of the API for versions and replays; see api.models."""

from pydantic import Field

from api.models import Body, OperatorOnly
from api.params import TIME_FORMATS, BeforeMs, FromMs, ToMs
from pipelines.replay.transcript_diff import Change
from schemas.events import ReplayStage
from sinks.clickhouse.call_projection import Status
from sinks.clickhouse.replay_projection import ReplayDoc
from sinks.clickhouse.result_versions import Version


class VersionItem(Version, Body):
    """Version of a part's result, made with certain settings.

    `of`: `transcript` or `summary`. `version_id`: the key of the job that made it. `transcript_id`: the transcript
    itself, or the source of a summary. `current`: True for the version that the API shows by default. `replay_id`: the
    replay that made it, "" for live processing. `made_at_ms`: ms since the epoch.
    """


class VersionList(Body):
    """Versions of a call, by part, transcripts first, oldest first."""

    call_id: str
    versions: list[VersionItem]


class VersionComparison(Body):
    """Differences of the transcript `after` from `before`, with `before` as the reference.

    Times in ms from the recording's start. Case and punctuation are ignored.
    """

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


class CallFilters(Body):
    """Selection of calls by id, by filters, or by both. An empty list or text is refused."""

    calls: list[str] | None = Field(
        None, min_length=1, max_length=10_000, description="Call ids. Without them the filters select the calls."
    )
    tenant: str | None = Field(
        None, min_length=1, description="Only this tenant's calls; for keys that see every tenant."
    )
    since: FromMs | None = Field(
        None, alias="from", description=f"Only calls that started at this time or later. {TIME_FORMATS}"
    )
    until: ToMs | None = Field(
        None, alias="to", description=f"Only calls that started before this time. {TIME_FORMATS}"
    )
    status: Status | None = Field(None, description="Only calls in this status.")
    failed: bool = Field(False, description="Only failed calls; the same as `status` = `failed`.")
    query: str | None = Field(
        None, min_length=1, max_length=500, description="Only calls whose id or numbers contain this text."
    )


class VersionsUse(CallFilters):
    """Request to make versions of many calls current: those of `replay`, or those that were current `before` a time.

    Filters narrow the calls.
    """

    replay: str | None = Field(None, min_length=1, description="A replay's id: the versions that it made or found.")
    before: BeforeMs | None = Field(
        None,
        description="The versions that were current before this time. A replay's id means: before the request of that "
        f"replay, for its calls only. {TIME_FORMATS}",
    )
    dry_run: bool = Field(False, description="Only count the calls that would be switched.")


class VersionsSwitched(Body):
    """Result of a switch of versions.

    `calls`, `parts`: number of examined calls and parts. `switched_calls`, `switched_parts`: number of those that have
    other current versions now. The others already had the requested versions, or have no such versions.
    """

    calls: int
    parts: int
    switched_calls: int
    switched_parts: int


class ReplayRequest(CallFilters):
    """Request to process calls again from a stage on, with other settings if given. `all` is required without filters.

    `stage` names the input that is read again: `media` the audio on the log, `recording` the recording (for a new
    transcript), `transcript` the transcript (for summary and embedding), `summary` and `embedding` the transcript for
    that result only.
    """

    stage: ReplayStage
    all: bool = Field(False, description="All calls, or all calls that pass the filters.")
    keep_current: bool = Field(
        False, description="Keeps the current versions; by default the replay's results become current."
    )
    provider: str | None = Field(None, description="Another provider for the first engine of the replay.")
    model: str | None = Field(None, description="Another model of that engine.")
    language: str | None = Field(None, description="The spoken language, ISO 639-1, for transcription.")
    prompt: str | None = Field(None, max_length=20_000, description="Another prompt for the summary.")
    dry_run: bool = Field(False, description="Only estimate the work and the cost.")


class FailedPart(Body):
    """Part with a note: a part that a replay gave up on or skipped, and the reason."""

    tenant: str
    call_id: str
    part: int
    outcome: str
    reason: str


class ReplayItem(ReplayDoc, Body):
    """Replay and its progress. Times in ms since the epoch.

    `tenant`: "" if the replay was requested with a key that sees every tenant. `parts`: number of parts of calls;
    `done`, `failed` and `skipped` of them are finished. `duration_ms`: audio of all parts. `state`: `running`,
    `stopped` or `done`. `run`: how often it was started. `per_minute`: parts at the rate of the last minute; `eta_s`:
    time for the rest at that rate, null if it is unknown. `keep_current`: True if the results do not become current.
    `reused`: done parts that had every result before, so that nothing was made. `switched`: done parts with other
    current versions now; 0 with `keep_current`.
    """


class Replay(ReplayItem):
    """Replay, with notes on its failed and skipped parts and on others."""

    notes: list[FailedPart]


class ReplayList(Body):
    """Replays, newest first."""

    replays: list[ReplayItem]


class ReplayEstimate(Body):
    """Work and price of a replay.

    `left_out`: selected recordings that cannot be processed from that stage. `to_transcribe_ms`, `to_summarize`,
    `to_embed`: work without a result yet. Amounts are decimal strings: exact for charges by time, estimated for charges
    by tokens.
    """

    calls: int
    parts: int
    left_out: int
    duration_ms: int
    to_transcribe_ms: int
    to_summarize: int
    to_embed: int
    provider_cost: OperatorOnly = None
    price: str
    currency: str


class ReplayAnswer(Body):
    """Started replay (null after a dry run), and the estimate of its work and cost."""

    id: str | None
    replay: ReplayItem | None
    estimate: ReplayEstimate
