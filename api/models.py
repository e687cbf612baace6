"""What the API answers, one pydantic model per body: the handlers send these, the OpenAPI document describes these."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from schemas.artifacts import Peaks, Transcript
from schemas.events import ActionItem, SpeakerSentiment, TrackOutline
from sinks.clickhouse.call_projection import Status, SummaryDoc


class Body(BaseModel):
    """Base: what is sent is exactly what is described."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)


OperatorOnly = Annotated[
    str | None,
    Field(exclude_if=lambda value: value is None, description="Only in answers to keys that see every tenant."),
]
"""A field that is left out of answers to a tenant's key: costs and margins are the operator's affair."""


class Artefacts(Body):
    """Paths of what there is already; null for what is not there yet."""

    recording: str | None
    waveform: str | None
    transcript: str | None
    summary: str | None


class Stretch(Body):
    """Some seconds of a track, in ms from the start of the recording, and how much of them is missing."""

    start_ms: int
    end_ms: int
    missing_ms: int


class GapSummary(Body):
    """What is missing of a track. count: gaps, those that `gaps` leaves out too. percent: of the audio that should have
    come. worst: the stretch that misses most; gaps that begin within 10 s are one stretch."""

    count: int
    missing_ms: int
    percent: float
    worst: Stretch | None


class Track(TrackOutline):
    """One direction of the call. `gaps` has the longest gaps, at most 1,000; `gaps_left_out` says how many others there
    are. `gap_summary` is about all of them."""

    gap_summary: GapSummary


class Part(Body):
    """One recording of a call. Times in ms since the epoch; `duration_ms` is its audio's."""

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
    """A line of the bill. Money as exact decimal strings. `replay_id`: the replay that caused the line, "" for the call
    as it came in. `charged_at_ms`: ms since the epoch."""

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
    """A call, in a list. Times in ms since the epoch; `duration_ms` is the audio of all its parts, `gap_ms` how much of
    it is missing in one track or the other."""

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
    """A call. `tracks`, `summary` and `times` are the first part's; `parts` has everyone's.

    `end_reason`: why the last stream ended: `carrier-stop`, `socket-closed`, `call-ended`; or, if the gateway ended it,
    `idle`, `peer-gone`, `protocol-error` or `gateway-draining`; null before the end. `repairs`: kinds of damage
    that were repaired in the text of the streams' starts: `invalid-utf-8`, `lone-surrogate`, `text-around-json`,
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
    """A page of calls, newest first. `next_cursor` is null on the last page."""

    calls: list[CallListItem]
    next_cursor: str | None


class TrackLevels(Body):
    """How loud a track of a live call has just been: root mean square in dB of full scale, -90 to 0, a tenth of a
    second each."""

    tenant: str
    call_id: str
    track: str
    levels_db: list[int]


class LevelList(Body):
    """Data of a `levels` event of /v1/live."""

    levels: list[TrackLevels]


class Erasure(Body):
    """The call is not to be seen any more. What there is of it is deleted as soon as nothing of it is under way."""

    call_id: str
    status: Literal["erasing"] = "erasing"


class EventList(Body):
    """What happened to a call, in the order in which it came true: the events as they travelled on the log."""

    call_id: str
    events: list[dict[str, Any]]


class PartSummary(Body):
    """One part in short; see `SummaryDoc`. Only a language model gives `topics`, `sentiment`, `outcome`, `fields`."""

    part: int
    abstract: str
    key_points: list[str]
    action_items: list[str]
    topics: list[str]
    actions: list[ActionItem]
    sentiment: list[SpeakerSentiment]
    outcome: str
    fields: dict[str, str]


class CallSummary(Body):
    """What was said. The lists and `abstract` are those of all parts together, `parts` keeps them apart. What cannot
    be put together (sentiment, outcome, fields) is the last part's that has any."""

    call_id: str
    abstract: str
    key_points: list[str]
    action_items: list[str]
    topics: list[str]
    actions: list[ActionItem]
    sentiment: list[SpeakerSentiment]
    outcome: str
    fields: dict[str, str]
    parts: list[PartSummary]


class Waveform(Peaks):
    """A part's waveform: per channel (inbound, outbound) pairs of least and greatest sample, each -128 to 127, one
    pair per `samples_per_peak` samples."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class SearchHit(Body):
    """Where something like it was said. Times in ms from the start of that part's recording. score: the cosine
    similarity of the text and the query; 1 is the same sentence, equal sentences have equal scores."""

    call_id: str
    part: int
    start_ms: int
    end_ms: int
    speaker: str
    text: str
    score: float


class SearchResults(Body):
    """Hits, best first."""

    results: list[SearchHit]


class Bundled(Body):
    """What a service that bundles recording and transcription would have charged for the same minutes, by its rate in
    the settings and where that was read."""

    name: str
    per_minute: str
    currency: str
    amount: str
    source: str


class UsageRow(Body):
    """A sum over lines of the bill. Money as exact decimal strings; sums never cross currencies.

    `group`: the day (UTC, of the call's start), tenant, provider, kind or call id; "" for the total. `duration_ms`,
    `minutes` (three decimals): audio of the recordings. Each recording counts once, on its first transcription's line,
    however often it was transcribed, summarized or embedded again. `margin`: price less `provider_cost`.
    """

    group: str
    currency: str
    lines: int
    units: int
    duration_ms: int
    minutes: str
    provider_cost: OperatorOnly = None
    price: str
    margin: OperatorOnly = None


class Usage(Body):
    """The bill. Groups are ordered by `group`, then currency; `total` has one line per currency, since amounts of
    different currencies are never added, and `""` as group. `time_zone`: of the days."""

    group_by: str
    time_zone: str
    groups: list[UsageRow]
    total: list[UsageRow]
    transcribed_minutes: str
    bundled: list[Bundled]


class ServiceState(Body):
    """A service by what it says of itself: `up`, `failing` (its last attempts all failed: `failures_in_a_row`, and
    `last_error`), `stalled` (it answers, and hangs) or `down`. Null where it does not tell. `lag_records`: on the log
    and not done; `retries`, `dead_letters`, `attempts` (by result): since it started; `attempt_s`: how long one takes
    on average."""

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
    """The log or a store, and why it cannot be used, if it cannot."""

    name: str
    ok: bool
    reason: str | None


class Provider(Body):
    """An engine in use and its service. `state`: `healthy` (the last requests succeeded), `failing` or `away` (with the
    last error as `reason`), `idle` (no request succeeded or failed since the service started) or `unknown` (the service
    does not answer). Attempts since the service started."""

    name: str
    service: str
    state: Literal["healthy", "failing", "away", "idle", "unknown"]
    reason: str | None
    away: bool | None
    attempts: dict[str, int]
    attempt_s: float | None


class Operations(Body):
    """How everything fares now."""

    services: list[ServiceState]
    stores: list[Store]
    providers: list[Provider]


class DeadLetter(Body):
    """Work that a stage gave up on. Times in ms since the epoch; `replayed_at_ms`: when it was given back; `healed`:
    the stage has a result for it by now, so that there is nothing left to do."""

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
    """Dead letters, newest first, at most 500; `total`: how many there are."""

    letters: list[DeadLetter]
    total: int


class SignIn(Body):
    """What to sign in with."""

    key: str = Field(min_length=1, max_length=500, description="An API key.")


class Session(Body):
    """Who asks. `tenant` is null for who sees every tenant; `via` is `key`, `session` (the cookie), `link`
    or `kratos` (a session at Ory Kratos).
    `expires_at_ms` (ms since the epoch) and `csrf_token`, to be sent as X-CSRF-Token with what changes something, are
    null where there are none."""

    tenant: str | None
    via: str
    expires_at_ms: int | None
    csrf_token: str | None


class LinkRequest(Body):
    """A link to one call."""

    expires_in_s: int = Field(86_400, ge=60, le=2_592_000, description="How long it opens the call: up to 30 days.")


class Link(Body):
    """Opens one call, to look at, without a key: `url` for people; for programs `token`, as the parameter `share`.
    It ends at `expires_at_ms` (ms since the epoch), or with the key it was made with."""

    url: str
    token: str
    expires_at_ms: int


class Health(Body):
    """The process answers."""

    status: str = "ok"


class Readiness(Body):
    """`ready`, or what is missing: by store, why."""

    status: str
    missing: dict[str, str] = Field(default_factory=dict)


class JoinedTranscript(Transcript):
    """A transcript, segments ordered by start. Times in ms from the recording's start (see the `part` parameter)."""

    model_config = ConfigDict(title="Transcript", json_schema_serialization_defaults_required=True)


def call_path(call_id: str) -> str:
    """Path of a call, its id percent-encoded: ids are the carrier's and may hold anything, dots alone included, which
    clients would take for a step up."""
    encoded = quote(call_id, safe="")
    return f"/v1/calls/{encoded if encoded.strip('.') else encoded.replace('.', '%2E')}"
