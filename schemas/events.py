"""The JSON events on the log, one pydantic model each.

Rules of evolution: fields are only ever added, with a default; none is renamed, retyped or removed; readers pass
over fields they do not know. `version` is raised when a reader could want to know of an addition.
"""

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter

# Money is exact: a Decimal in Python, a string in JSON.
Money = Annotated[Decimal, PlainSerializer(str, return_type=str)]


class Frozen(BaseModel):
    """Base of everything here: immutable, and tolerant of fields a newer producer added."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Event(Frozen):
    """What all events share.

    event_id: deterministic: the same fact told twice has the same id.
    call_id: the carrier's call id. tenant: whose call it is. part: 1, or more if a stream came after the call closed.
    occurred_at_ms: when the fact came true, ms since the epoch.
    config_hash: of the configuration that made it; "" where none did.
    replay_id: the replay that told it; "" for what is told of a call as it comes in.
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
    """A carrier's media stream began. repairs: kinds of damage that its start's text had; see
    gateway.carriers.common.text_repair."""

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
    """A media stream ended. dropped_ms: audio the gateway gave up because the log was away too long.

    repaired: how many of its messages came in damaged text that was repaired.
    """

    type: Literal["stream.ended"] = "stream.ended"
    stream_id: str
    reason: str
    frames: int = 0
    dropped_ms: int = 0
    repaired: int = 0


class DtmfReceived(Event):
    """A keypad digit. seq: the carrier's sequence number, 0 if it has none; number: 1 for the first digit that came on
    the stream, and so on. Several digits may have come in the same millisecond."""

    type: Literal["dtmf.received"] = "dtmf.received"
    stream_id: str
    track: str
    digit: str
    seq: int = 0
    number: int = 0


class CallStatusReported(Event):
    """The carrier told by a webhook how the call or one of its streams fares, in its own words.

    stream_id: "" where it is about the call. over: the status means that the call has ended.
    from_number, to_number: the parties as this webhook names them, "" where it does not.
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
    """Missing audio inside a track: silence in the recording. Times in ms from the recording's start."""

    start_ms: int
    end_ms: int
    reason: str


class TrackReport(Frozen):
    """One direction of the call. audio_ms: audio that arrived; compare it with the recording's duration.

    mixed_ms: how much of it is several streams of this direction that sounded at the same time and were mixed.
    """

    name: str
    audio_ms: int
    gaps: list[Gap] = Field(default_factory=list)
    mixed_ms: int = 0


def _together_ms(track: dict[str, Any]) -> int:
    return sum(gap.end_ms - gap.start_ms for gap in track.get("gaps", ()))


class TrackOutline(TrackReport):
    """A track as an event tells it, which the log must take: `gaps` has the longest. The manifest has all of them.

    gaps_left_out: how many there are besides. missing_ms: what all gaps together miss.
    """

    gaps_left_out: int = 0
    missing_ms: int = Field(default_factory=_together_ms)  # of events of before, which have all gaps


class ObjectRef(Frozen):
    """Claim check of an object in S3: its key in the bucket, SHA-256 (hex) and size in bytes."""

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

    transcript_id: the job key. engine_ms: what the engine took; words, segments: how many were found.
    keep_current: a replay made it beside the version that counts, which still counts.
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
    """What a language model counted. prompt: all it was sent, `cached` of it from its cache; candidates: its answer;
    thoughts: what it thought before, which is billed like an answer."""

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
    """Something to be done after the call. owner: who does it, a speaker or a name; "" if nobody was named."""

    text: str
    owner: str = ""


class SpeakerSentiment(Frozen):
    """How a speaker sounded by what they said: "positive", "neutral", "negative" or "mixed"."""

    speaker: str
    sentiment: str


class SummaryReady(Event):
    """What was said, in short. Small enough to travel itself; a copy is in S3.

    actions: action_items once more, with their owners. outcome, fields: see schemas.artifacts.Summary.
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
    """The call's speaker turns are searchable: `points` vectors of `dimension` in the collection."""

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
    """One line of the bill. key: what is charged; the same key is charged once, however often it is told.

    units: 50 a minute, whole. provider_cost: what the provider bills us; price: what the customer pays.
    provider_ms: the audio the provider counted, where it says so (channels are sent one after the other, without long
    silences). cost_source: whether the provider named its cost or the rate in our settings did.
    tokens: what a language model counted, where the work was one's.
    call_started_at_ms decides the day the line is booked on, so that a late redelivery cannot move it.
    """

    type: Literal["usage.recorded"] = "usage.recorded"
    key: str
    kind: Literal["transcription", "summary", "embedding"]
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


_MOST_PAYLOAD_BYTES = 900_000  # the log takes 1,000,000 in all
_CUT_TO = 1_000
CUT = "\ufffd"
"""Where the payload of a letter does not say what the record did: such a record cannot be sent again."""


def payload_of(record: str) -> str:
    """A record as a dead letter carries it: cut, if the log would not take the letter otherwise."""
    fits = len(json.dumps(record, ensure_ascii=False).encode()) <= _MOST_PAYLOAD_BYTES
    return record if fits else record[:_CUT_TO] + CUT


class StageFailed(Event):
    """A stage gave up on a call's work: the dead letter. origin: where the input stood on the log.

    payload: the input event's JSON, so that `audiotext dlq replay` can send it again; see `payload_of`.
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
    """Somebody put a dead letter's payload back on its origin topic. Beside the letter, on the same topic.

    letter_id: the letter's event_id.
    """

    type: Literal["letter.replayed"] = "letter.replayed"
    letter_id: str


class RetryScheduled(Event):
    """An attempt at a stage's work failed and the next one is due. On the stage's own retry topic.

    payload: the input event's JSON. attempts: failed so far. due_at_ms: not before this time (ms since the epoch).
    error: the last attempt's. origin_*: where the input stood on the log first.
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
    """A provider says that an order is done, for better or worse. call_id, tenant: "", the provider knows neither.

    remote_id: the provider's. status: in its own words.
    """

    type: Literal["order.notice"] = "order.notice"
    provider: str
    remote_id: str
    status: str


ReplayStage = Literal["media", "recording", "transcript", "summary", "embedding"]


class ReplayOverrides(Frozen):
    """What a replay does otherwise than the settings say; None = as they say.

    provider, model, language: of the first engine that is asked again; prompt: of the summary.
    """

    provider: str | None = None
    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class ReplayCommand(Event):
    """Calls are to be processed again; or a replay is to stop, or to go on. Each command says all there is to know.

    call_id: the replay's id, which keeps its commands in order. tenant: who asked; "" = somebody who sees every tenant.
    run: the run that is stopped, or the one that begins; the first is 1. stage: what to start from. plan: which parts
    (schemas.artifacts.ReplayPlan); parts, duration_ms: how many, and how much audio. keep_current: the versions that
    count still count afterwards; without it the replay's results count.
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
    """A part to be processed again, as it was when its replay reached it. note: what was found out about it so far."""

    recording: RecordingReady | None = None
    transcript: TranscriptReady | None = None
    note: str = ""


class ReplayJob(Event):
    """Some parts of a replay's plan, for whoever is free. run: void once that run is stopped."""

    type: Literal["replay.job"] = "replay.job"
    stage: ReplayStage
    overrides: ReplayOverrides = ReplayOverrides()
    run: int
    inputs: list[ReplayInput]
    keep_current: bool = False


class ReplayedPart(Event):
    """A part in a replay: begun, or how it ended.

    note: the reason, or what was not as requested. run: the replay's run. stage: of a failed part, the stage that
    failed. transcript_id, summary_id: of a part that is done, the versions that the replay made or found. reused: all
    results were there before, so nothing was made. switched: another version counts than before.
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
    """From now on this version of the part's transcript or summary is the one that counts."""

    type: Literal["version.chosen"] = "version.chosen"
    of: Literal["transcript", "summary"]
    version_id: str


class ErasureRequested(Event):
    """Everything about the call is to be deleted, as soon as nothing of it is under way."""

    type: Literal["erasure.requested"] = "erasure.requested"


class CallErased(Event):
    """Everything about the call has been deleted but its lines of the bill. Nothing told of it later counts."""

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
    """The event in a record's value. Raises pydantic.ValidationError for anything else."""
    return _ANY.validate_json(value)
