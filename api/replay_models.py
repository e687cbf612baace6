"""What the API answers about versions and replays; see api.models."""

from pydantic import Field

from api.models import Body, OperatorOnly
from api.params import WHEN, BeforeMs, FromMs, ToMs
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


class CallFilters(Body):
    """Which calls: `calls`, or all that pass the filters; both together mean both. An empty list or text is refused."""

    calls: list[str] | None = Field(
        None, min_length=1, max_length=10_000, description="Call ids. Without, the filters say which calls."
    )
    tenant: str | None = Field(
        None, min_length=1, description="Only this tenant's calls; for keys that see every tenant."
    )
    since: FromMs | None = Field(None, alias="from", description=f"Only calls that started then or later. {WHEN}")
    until: ToMs | None = Field(None, alias="to", description=f"Only calls that started before. {WHEN}")
    status: Status | None = Field(None, description="Only calls in this status.")
    failed: bool = Field(False, description="Only calls that failed: short for `status`.")
    query: str | None = Field(
        None, min_length=1, max_length=500, description="Only calls whose id or numbers contain this text."
    )


class VersionsUse(CallFilters):
    """Which versions are to count, of many calls at once: either those that `replay` made or found, or those that
    counted `before`. Without filters, of all calls that this is about."""

    replay: str | None = Field(None, min_length=1, description="A replay's id: the versions that it made or found.")
    before: BeforeMs | None = Field(
        None,
        description="The versions that counted before then. A replay's id means: before that replay was requested, for "
        f"its calls alone. {WHEN}",
    )
    dry_run: bool = Field(False, description="Only say how many calls would be switched.")


class VersionsSwitched(Body):
    """`calls` and their `parts` were looked at; of `switched_calls` and `switched_parts` other versions count now than
    before. Of the rest the wanted versions counted already, or there are none."""

    calls: int
    parts: int
    switched_calls: int
    switched_parts: int


class ReplayRequest(CallFilters):
    """Which calls to process again, from which stage on, and with what other settings. Without filters it needs `all`.

    The stage is what is read again: `media` the audio on the log, `recording` the recording (to transcribe it),
    `transcript` the transcript (for summary and embedding), `summary` and `embedding` the transcript for that alone.
    """

    stage: ReplayStage
    all: bool = Field(False, description="Every call there is, or every one that passes the filters.")
    keep_current: bool = Field(
        False, description="The versions that count still count afterwards; without, the replay's results count."
    )
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
    in ms since the epoch. `tenant` is "" if it was asked for with a key that sees every tenant. Of the parts that are
    done, `reused` had every result before, so that nothing was made, and `switched` have other current versions since;
    none with `keep_current`."""

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
    keep_current: bool
    reused: int
    switched: int


class Replay(ReplayItem):
    """A replay, the parts it could not do, and what it found out about others."""

    notes: list[FailedPart]


class ReplayList(Body):
    """Replays, newest first."""

    replays: list[ReplayItem]


class ReplayEstimate(Body):
    """The work and the price of a replay. `left_out`: recordings that were chosen and cannot be processed from that
    stage. `to_transcribe_ms`, `to_summarize`, `to_embed`: what has no result yet. Money as decimal strings: exact where
    time is charged, estimated where tokens are."""

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
    """What was asked for: the replay, null after a dry run, and what it does and costs."""

    id: str | None
    replay: ReplayItem | None
    estimate: ReplayEstimate
