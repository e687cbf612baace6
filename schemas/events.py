"""JSON events on the log, one pydantic model each.

Rules of evolution: fields are only added, with a default, and never renamed, retyped or removed. Readers ignore unknown
fields. `version` is raised when an addition matters to readers.
"""

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter, WithJsonSchema

from schemas.usage_keys import UsageKind

# Amounts are exact: a Decimal in Python, a string in JSON.
Money = Annotated[Decimal, PlainSerializer(str, return_type=str)]


class Frozen(BaseModel):
    """Base of all models: immutable, ignores fields that a newer producer added."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Event(Frozen):
    """Fields of all events.

    event_id: deterministic; the same fact always has the same id.
    call_id: the carrier's call id. tenant: the owner of the call. part: 1, or more if a stream came after the call was
    closed.
    occurred_at_ms: time of the fact, ms since the epoch.
    config_hash: hash of the configuration that made the result; "" if there is none.
    replay_id: the replay that published the event; "" for live processing.
    """

    event_id: str
    call_id: str
    tenant: str
    part: int = 1
    occurred_at_ms: int
    config_hash: str = ""
    version: int = 1
    replay_id: str = ""


class StreamStarted(Event):
    """A carrier's media stream began.

    repairs: kinds of damage in the text of its start message; see gateway.carriers.common.text_repair.
    """

    type: Literal["stream.started"] = "stream.started"
    carrier: str
    stream_id: str
    tracks: list[str]
    codec: str
    rate_hz: int
    from_number: str = ""
    to_number: str = ""
    custom: dict[str, str] = Field(default_factory=dict)
    repairs: list[str] = Field(default_factory=list)


class StreamEnded(Event):
    """A media stream ended. dropped_ms: audio that the gateway dropped because the log was unavailable for too long.

    repaired: number of its messages whose damaged text was repaired.
    """

    type: Literal["stream.ended"] = "stream.ended"
    stream_id: str
    reason: str
    frames: int = 0
    dropped_ms: int = 0
    repaired: int = 0


class DtmfReceived(Event):
    """A keypad digit was pressed.

    seq: the carrier's sequence number, 0 if it sends none. number: 1 for the first digit of the stream, and so on.
    Several digits may have the same millisecond.
    """

    type: Literal["dtmf.received"] = "dtmf.received"
    stream_id: str
    track: str
    digit: str
    seq: int = 0
    number: int = 0


class CallStatusReported(Event):
    """The carrier reported the status of the call or of one of its streams by a webhook, in the carrier's own words.

    stream_id: "" if the status is about the call. over: True if the status means that the call has ended.
    from_number, to_number: the parties according to this webhook, "" if it does not name them.
    """

    type: Literal["call.status"] = "call.status"
    carrier: str
    status: str
    stream_id: str = ""
    over: bool = False
    reason: str = ""
    from_number: str = ""
    to_number: str = ""


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


class ObjectRef(Frozen):
    """Claim check of an object in S3: key, SHA-256 (hex) and size in bytes."""

    key: str
    sha256: str
    size: int


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


class TranscriptReady(Event):
    """A transcript is in S3 (JSON of schemas.artifacts.Transcript).

    transcript_id: the job key. engine_ms: time of the engine; words, segments: numbers of them.
    keep_current: True if a replay made it without making it the current version.
    """

    type: Literal["transcript.ready"] = "transcript.ready"
    transcript_id: str
    transcript: ObjectRef
    recording_sha256: str
    language: str
    duration_ms: int
    provider: str
    model: str
    segments: int
    words: int
    engine_ms: int
    call_started_at_ms: int
    keep_current: bool = False


class Tokens(Frozen):
    """Tokens that a language model counted.

    prompt: the input, including `cached` tokens from the provider's cache. candidates: the output. thoughts: reasoning
    before the output, charged like output.
    """

    prompt: int = 0
    candidates: int = 0
    thoughts: int = 0
    cached: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            prompt=self.prompt + other.prompt,
            candidates=self.candidates + other.candidates,
            thoughts=self.thoughts + other.thoughts,
            cached=self.cached + other.cached,
        )


NO_TOKENS = Tokens()


class ActionItem(Frozen):
    """Task after the call. owner: a speaker or a name; "" if no owner was named."""

    text: str
    owner: str = ""


class SpeakerSentiment(Frozen):
    """Sentiment of a speaker, by the text: "positive", "neutral", "negative" or "mixed"."""

    speaker: str
    sentiment: str


class SummaryReady(Event):
    """A summary is ready. The event contains it; a copy is in S3.

    actions: the action items again, with their owners. outcome, fields: see schemas.artifacts.Summary.
    keep_current: see TranscriptReady.
    """

    type: Literal["summary.ready"] = "summary.ready"
    transcript_id: str
    summary: ObjectRef
    provider: str
    model: str
    abstract: str
    key_points: list[str]
    action_items: list[str]
    engine_ms: int
    call_started_at_ms: int
    topics: list[str] = Field(default_factory=list)
    actions: list[ActionItem] = Field(default_factory=list)
    sentiment: list[SpeakerSentiment] = Field(default_factory=list)
    outcome: str = ""
    fields: dict[str, str] = Field(default_factory=dict)
    keep_current: bool = False


class EmbeddingReady(Event):
    """The call's speaker turns are searchable: the collection has `points` vectors of `dimension`."""

    type: Literal["embedding.ready"] = "embedding.ready"
    transcript_id: str
    provider: str
    model: str
    collection: str
    dimension: int
    points: int
    engine_ms: int
    call_started_at_ms: int


class UsageRecorded(Event):
    """Ledger line. key: identifies the charge; the same key is charged once, however often the event is delivered.

    units: 50 per minute, an integer. provider_cost: the provider's charge to us; price: the customer's price.
    provider_ms: audio that the provider counted, if it reports it (channels are sent one after the other, without long
    silences). cost_source: source of the cost, the provider or the rate in our settings.
    tokens: tokens that a language model counted, if one did the work.
    call_started_at_ms: decides the day of the line, so that a late redelivery cannot move it.
    """

    type: Literal["usage.recorded"] = "usage.recorded"
    key: str
    kind: Annotated[UsageKind, WithJsonSchema({"enum": list(UsageKind), "title": "Kind", "type": "string"})]
    units: int
    duration_ms: int
    provider: str
    model: str
    provider_cost: Money
    price: Money
    currency: str
    call_started_at_ms: int
    provider_ms: int | None = None
    cost_source: Literal["rate", "provider"] = "rate"
    tokens: Tokens | None = None


_MOST_PAYLOAD_BYTES = 900_000  # the log's limit for the whole record is 1,000,000
_CUT_TO = 1_000
CUT = "\ufffd"
"""Mark in the payload of a dead letter that differs from the record: such a dead letter cannot be replayed."""


def payload_of(record: str) -> str:
    """Returns a record as the payload of a dead letter: cut if the log would refuse the dead letter otherwise."""
    fits = len(json.dumps(record, ensure_ascii=False).encode()) <= _MOST_PAYLOAD_BYTES
    return record if fits else record[:_CUT_TO] + CUT


class StageFailed(Event):
    """Dead letter: a stage gave up on a call's work. origin_*: position of the input on the log.

    payload: JSON of the input event, which `audiotext dlq replay` sends again; see `payload_of`.
    """

    type: Literal["stage.failed"] = "stage.failed"
    stage: str
    error_class: Literal["retry", "quota", "permanent"]
    error: str
    attempts: int
    origin_topic: str
    origin_partition: int
    origin_offset: int
    payload: str


class LetterReplayed(Event):
    """A dead letter was replayed: its payload is on its origin topic again. Published on the topic of dead letters.

    letter_id: the dead letter's event_id.
    """

    type: Literal["letter.replayed"] = "letter.replayed"
    letter_id: str


class RetryScheduled(Event):
    """An attempt of a stage failed and the next one is scheduled. Published on the stage's retry topic.

    payload: JSON of the input event. attempts: failed attempts so far. due_at_ms: earliest time of the next attempt (ms
    since the epoch). error: error of the last attempt. origin_*: first position of the input on the log.
    """

    type: Literal["retry.scheduled"] = "retry.scheduled"
    stage: str
    attempts: int
    due_at_ms: int
    error: str
    origin_topic: str
    origin_partition: int
    origin_offset: int
    payload: str


class OrderNotice(Event):
    """A provider reported that an order is done or failed. call_id, tenant: "", since the provider knows neither.

    remote_id: the provider's id of the order. status: in the provider's words.
    """

    type: Literal["order.notice"] = "order.notice"
    provider: str
    remote_id: str
    status: str


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


class VersionChosen(Event):
    """A version of the part's transcript or summary was made current."""

    type: Literal["version.chosen"] = "version.chosen"
    of: Literal["transcript", "summary"]
    version_id: str


class ErasureRequested(Event):
    """Erasure of the call was requested: everything about it is deleted when no work on it is in progress."""

    type: Literal["erasure.requested"] = "erasure.requested"


class CallErased(Event):
    """Everything about the call except its ledger lines was deleted. Later events of the call are ignored."""

    type: Literal["call.erased"] = "call.erased"


AnyEvent = Annotated[
    StreamStarted
    | StreamEnded
    | DtmfReceived
    | CallStatusReported
    | RecordingReady
    | TranscriptReady
    | SummaryReady
    | EmbeddingReady
    | UsageRecorded
    | StageFailed
    | LetterReplayed
    | RetryScheduled
    | ReplayCommand
    | ReplayJob
    | ReplayedPart
    | VersionChosen
    | ErasureRequested
    | CallErased,
    Field(discriminator="type"),
]

_ANY: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


def parse_event(value: bytes | str) -> AnyEvent:
    """Returns the event in a record's value. Raises pydantic.ValidationError if the value is not an event."""
    return _ANY.validate_json(value)
