"""Response bodies of the API, one pydantic model each. Handlers send them, and the OpenAPI document describes them."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from schemas.artifacts import Peaks, Transcript
from schemas.events import ActionItem, SpeakerSentiment, TrackOutline
from sinks.clickhouse.call_projection import Status, SummaryDoc


class Body(BaseModel):
    """Base of all bodies: each contains exactly the described fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)


OperatorOnly = Annotated[
    str | None,
    Field(exclude_if=lambda value: value is None, description="Only in responses to keys that see every tenant."),
]
"""Field that responses to a tenant's key leave out: only the operator sees costs and margins."""


class Artefacts(Body):
    """Paths of the available artefacts; null for an artefact that is not available yet."""

    recording: str | None
    waveform: str | None
    transcript: str | None
    summary: str | None


class Stretch(Body):
    """Stretch of a track, in ms from the start of the recording, and how much of it is missing."""

    start_ms: int
    end_ms: int
    missing_ms: int


class GapSummary(Body):
    """Summary of a track's gaps.

    `count`: number of gaps, including those that `gaps` leaves out. `percent`: missing share of the expected audio.
    `worst`: the stretch with the most missing audio; gaps that begin within 10 s form one stretch.
    """

    count: int
    missing_ms: int
    percent: float
    worst: Stretch | None


class Track(TrackOutline):
    """One direction of the call.

    `gaps`: the longest gaps, at most 1,000. `gaps_left_out`: number of the others. `gap_summary` covers all gaps.
    """

    gap_summary: GapSummary


class Part(Body):
    """One recording of a call. Times in ms since the epoch; `duration_ms`: length of its audio."""

    part: int
    status: Status
    failed_stage: str | None
    failed_reason: str | None
    started_at_ms: int | None
    ended_at_ms: int | None
    duration_ms: int
    rate_hz: int | None
    close_reason: str | None
    tracks: list[Track]
    summary: SummaryDoc | None
    language: str | None
    times: dict[str, int]
    artefacts: Artefacts


class UsageLine(Body):
    """Ledger line. Amounts are exact decimal strings.

    `replay_id`: the replay that caused the line, "" for live processing. `charged_at_ms`: ms since the epoch.
    """

    key: str
    kind: str
    provider: str
    model: str
    replay_id: str
    charged_at_ms: int
    units: int
    duration_ms: int
    provider_cost: OperatorOnly = None
    price: str
    currency: str


class CallListItem(Body):
    """Call in a list. Times in ms since the epoch.

    `duration_ms`: audio of all parts. `gap_ms`: missing audio, summed over all tracks.
    """

    id: str
    tenant: str
    carrier: str
    status: Status
    failed_stage: str | None
    failed_reason: str | None
    started_at_ms: int
    ended_at_ms: int | None
    duration_ms: int
    gap_ms: int
    from_number: str
    to_number: str


class Call(CallListItem):
    """Call. `tracks`, `summary` and `times` are those of the first part; `parts` has those of every part.

    `end_reason`: why the last stream ended: `carrier-stop`, `socket-closed`, `call-ended`; or, if the gateway ended it,
    `idle`, `peer-gone`, `protocol-error` or `gateway-draining`; null before the end. `repairs`: kinds of damage that
    were repaired in the start messages of the streams: `invalid-utf-8`, `lone-surrogate`, `text-around-json`,
    `unescaped-text`.
    """

    tracks: list[Track]
    summary: SummaryDoc | None
    end_reason: str | None
    repairs: list[str]
    times: dict[str, int]
    artefacts: Artefacts
    parts: list[Part]
    usage: list[UsageLine]


class CallList(Body):
    """Page of calls, newest first. `next_cursor` is null on the last page."""

    calls: list[CallListItem]
    next_cursor: str | None


class TrackLevels(Body):
    """Recent levels of a track of a live call: root mean square in dB of full scale, -90 to 0, one per 100 ms."""

    tenant: str
    call_id: str
    track: str
    levels_db: list[int]


class LevelList(Body):
    """Data of a `levels` event of /v1/live."""

    levels: list[TrackLevels]


class Erasure(Body):
    """Accepted erasure: the call is hidden now, and its data is deleted when no work on it is in progress."""

    call_id: str
    status: Literal["erasing"] = "erasing"


class EventList(Body):
    """Events of a call as published on the log, in the order in which they occurred."""

    call_id: str
    events: list[dict[str, Any]]


class _SummaryBody(Body):
    abstract: str
    key_points: list[str]
    action_items: list[str]
    topics: list[str]
    actions: list[ActionItem]
    sentiment: list[SpeakerSentiment]
    outcome: str
    fields: dict[str, str]


class PartSummary(_SummaryBody):
    """Summary of one part; see `SummaryDoc`. Only a language model gives `topics`, `sentiment`, `outcome`, `fields`."""

    part: int


class CallSummary(_SummaryBody):
    """Summary of a call.

    The lists and `abstract` join those of all parts; `parts` has them separately. `sentiment` and `outcome` are those
    of the last part that has them; of equal `fields` the last part's value is kept.
    """

    call_id: str
    parts: list[PartSummary]


class Waveform(Peaks):
    """Waveform of a part.

    Per channel (inbound, outbound): pairs of lowest and highest sample, each -128 to 127, one pair per
    `samples_per_peak` samples.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class SearchHit(Body):
    """Turn that matches the query. Times in ms from the start of the part's recording.

    `score`: cosine similarity of text and query; 1 for the same sentence. Equal sentences have equal scores.
    """

    tenant: str
    call_id: str
    part: int
    start_ms: int
    end_ms: int
    speaker: str
    text: str
    score: float


class SearchResults(Body):
    """Search hits, best first."""

    results: list[SearchHit]


class Bundled(Body):
    """Amount that a service with bundled recording and transcription would have charged for the same minutes.

    `per_minute`: the service's rate in the settings. `source`: where the rate was published.
    """

    name: str
    per_minute: str
    currency: str
    amount: str
    source: str


class UsageRow(Body):
    """Sum of ledger lines. Amounts are exact decimal strings; a sum has one currency.

    `group`: the day of the call's start, tenant, provider, kind or call id; "" for the total. `tenant`: of the call, in
    groups by call; else "". `duration_ms`, `minutes`
    (three decimals): audio of the recordings. Each recording counts once, on the line of its first transcription,
    however often it was transcribed, summarized or embedded again. `margin`: price minus `provider_cost`.
    """

    group: str
    tenant: str
    currency: str
    lines: int
    units: int
    duration_ms: int
    minutes: str
    provider_cost: OperatorOnly = None
    price: str
    margin: OperatorOnly = None


class Usage(Body):
    """Sums of ledger lines by group, ordered by `group`, then currency.

    `total` has one row per currency with `""` as group, since amounts of different currencies are never added.
    `time_zone`: time zone of the days.
    """

    group_by: str
    time_zone: str
    groups: list[UsageRow]
    total: list[UsageRow]
    transcribed_minutes: str
    bundled: list[Bundled]


class ServiceState(Body):
    """State of a service as it reports it; null for figures that it does not report.

    `state`: `up`, `failing` (its last attempts all failed: see `failures_in_a_row` and `last_error`), `stalled` (it
    answers but makes no progress) or `down`. `lag_records`: records on the log that are not processed yet. `retries`,
    `dead_letters`, `attempts` (by result): since the service started. `attempt_s`: average duration of an attempt.
    """

    name: str
    state: str
    started_at_ms: int | None
    memory_bytes: int | None
    lag_records: int | None
    jobs_held: int | None
    jobs_running: int | None
    retries: int | None
    dead_letters: int | None
    provider_away: bool | None
    attempts: dict[str, int]
    attempt_s: float | None
    failures_in_a_row: int | None
    last_error: str | None


class Store(Body):
    """State of the log or a store; `reason`: why it cannot be used."""

    name: str
    ok: bool
    reason: str | None


class Provider(Body):
    """Engine in use, and the service that uses it.

    `state`: `healthy` (the last requests succeeded), `failing` or `away` (with the last error as `reason`), `idle` (no
    request succeeded or failed since the service started) or `unknown` (the service does not answer). `away`: the
    circuit breaker pauses requests. `attempts`: since the service started.
    """

    name: str
    service: str
    state: Literal["healthy", "failing", "away", "idle", "unknown"]
    reason: str | None
    away: bool | None
    attempts: dict[str, int]
    attempt_s: float | None


class Operations(Body):
    """Current state of services, stores and providers."""

    services: list[ServiceState]
    stores: list[Store]
    providers: list[Provider]


class DeadLetter(Body):
    """Dead letter: work that a stage gave up on. Times in ms since the epoch.

    `replayed_at_ms`: when the dead letter was replayed. `healed`: the stage has a result for it now, so nothing is left
    to do.
    """

    id: str
    tenant: str
    call_id: str
    part: int
    stage: str
    error_class: str
    error: str
    attempts: int
    occurred_at_ms: int
    origin_topic: str
    replayable: bool
    replayed_at_ms: int | None
    healed: bool


class DeadLetterList(Body):
    """Dead letters, newest first, at most 500; `total`: number of all."""

    letters: list[DeadLetter]
    total: int


class SignIn(Body):
    """Credentials for a sign-in."""

    key: str = Field(min_length=1, max_length=500, description="An API key.")


class Session(Body):
    """Identity of the client.

    `tenant`: null if the client sees every tenant. `via`: `key`, `session` (the cookie), `link` or `kratos` (a session
    at Ory Kratos). `expires_at_ms`: ms since the epoch, null without expiry. `csrf_token`: value for the X-CSRF-Token
    header of requests that change something, null if it is not needed.
    """

    tenant: str | None
    via: str
    expires_at_ms: int | None
    csrf_token: str | None


class LinkRequest(Body):
    """Request for a link to one call."""

    expires_in_s: int = Field(86_400, ge=60, le=2_592_000, description="Lifetime of the link, up to 30 days.")


class Link(Body):
    """Link that gives read access to one call without a key.

    `url` is for people; programs send `token` as the parameter `share`. The link expires at `expires_at_ms` (ms since
    the epoch), or when it or the key that created it is revoked. `id` names it in the list of links.
    """

    id: str
    url: str
    token: str
    expires_at_ms: int


class LinkItem(Body):
    """Valid link to a call, without its token. Times in ms since the epoch."""

    id: str
    created_at_ms: int
    expires_at_ms: int


class LinkList(Body):
    """Valid links to a call, newest first."""

    links: list[LinkItem]


class Health(Body):
    """Liveness: the process answers."""

    status: str = "ok"


class Readiness(Body):
    """Readiness, with the missing parts and the reason for each.

    On the public port the gateway answers: `missing` has what it needs to accept calls, and `api_missing` what only the
    API misses.
    """

    ready: bool
    missing: dict[str, str] = Field(default_factory=dict)
    api_missing: dict[str, str] = Field(default_factory=dict)


class JoinedTranscript(Transcript):
    """Transcript, segments ordered by start. Times in ms from the recording's start (see the `part` parameter)."""

    model_config = ConfigDict(title="Transcript", json_schema_serialization_defaults_required=True)


def call_path(call_id: str) -> str:
    """Returns the path of a call, with its id percent-encoded.

    A carrier's id may hold any text, even "..", which clients would resolve as the parent path.
    """
    encoded = quote(call_id, safe="")
    return f"/v1/calls/{encoded if encoded.strip('.') else encoded.replace('.', '%2E')}"
