"""A call as its events tell it: a pure function from events to a document.

The document is the same whatever order the events come in and however often each is told, since that is how an
at-least-once log tells them: events count once by `event_id`, and where several could speak (a stage that ran again)
the one that came true last does.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from pydantic import Field

from schemas.events import (
    ActionItem,
    AnyEvent,
    CallStatusReported,
    DtmfReceived,
    EmbeddingReady,
    Event,
    Frozen,
    LetterReplayed,
    ObjectRef,
    RecordingReady,
    SpeakerSentiment,
    StageFailed,
    StreamEnded,
    StreamStarted,
    SummaryReady,
    TrackOutline,
    TranscriptReady,
    VersionChosen,
)
from sinks.clickhouse.result_versions import VersionDoc, current_summary, current_transcript, versions

Status = Literal["live", "recorded", "transcribed", "summarized", "complete", "failed"]

# From the least advanced to the most; a call is as far as the least advanced of its parts.
_PROGRESS: Final[tuple[Status, ...]] = ("live", "recorded", "transcribed", "summarized", "complete")

# What heals a stage's failure. A failure of a stage that is not here (usage, analytics) is not the call's.
SUCCESS: Final[dict[str, type[Event]]] = {
    "recorder": RecordingReady,
    "transcribe": TranscriptReady,
    "summarize": SummaryReady,
    "embed": EmbeddingReady,
}

# Events that do not prove that there was a call here.
NOT_EVIDENCE: Final = (StageFailed, LetterReplayed, CallStatusReported, VersionChosen)

E = TypeVar("E", bound=Event)


class TranscriptDoc(Frozen):
    """Where a part's transcript lies and what made it. segments, words: how many; engine_ms: what the engine took."""

    transcript_id: str
    object: ObjectRef
    language: str
    provider: str
    model: str
    segments: int
    words: int
    engine_ms: int


class SummaryDoc(Frozen):
    """The call in short. `actions` are the action items with their owners apart. Only a language model gives `topics`,
    `sentiment`, `outcome` and the tenant's own `fields`."""

    abstract: str
    key_points: list[str]
    action_items: list[str]
    topics: list[str] = Field(default_factory=list)
    actions: list[ActionItem] = Field(default_factory=list)
    sentiment: list[SpeakerSentiment] = Field(default_factory=list)
    outcome: str = ""
    fields: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """A replay that does a part's work again. stages: whose work. under_way: it has not ended yet; else it failed at
    `at_ms` (ms since the epoch), in `stage` ("" where it does not say), for this reason."""

    part: int
    stages: frozenset[str]
    under_way: bool
    at_ms: int
    stage: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Failure:
    stage: str
    reason: str
    at_ms: int
    event_id: str


class PartDoc(Frozen):
    """One recording of the call: a call whose carrier reconnected after it was closed has several.

    started_at_ms, ended_at_ms: wall clock of the recording, ms since the epoch. duration_ms: of its audio.
    times: when each stage's result came true, ms since the epoch, by status reached ("recorded", "transcribed",
    "summarized", "embedded"); stages that have not are left out. versions: of transcript and summary, all there are.
    embedded_by: hashes of the configurations by which the transcript that counts was embedded. failed_stage,
    failed_reason, failed_at_ms: the latest failure that nothing has healed and nobody is trying again.
    """

    part: int
    status: Status
    failed_stage: str | None = None
    failed_reason: str | None = None
    failed_at_ms: int | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    duration_ms: int = 0
    rate_hz: int | None = None
    close_reason: str | None = None
    recording: ObjectRef | None = None
    peaks: ObjectRef | None = None
    manifest: ObjectRef | None = None
    tracks: list[TrackOutline] = Field(default_factory=list)
    transcript: TranscriptDoc | None = None
    summary: SummaryDoc | None = None
    times: dict[str, int] = Field(default_factory=dict)
    versions: list[VersionDoc] = Field(default_factory=list)
    embedded_by: list[str] = Field(default_factory=list)


class UsageLine(Frozen):
    """One line of the bill. Money as exact decimal strings. replay_id: the replay that caused it, "" for none.
    charged_at_ms: ms since the epoch."""

    key: str
    kind: str
    provider: str
    model: str
    replay_id: str
    charged_at_ms: int
    units: int
    duration_ms: int
    provider_cost: str
    price: str
    currency: str


class CallDoc(Frozen):
    """A call. `id` is the carrier's call id.

    ended_at_ms: when the last stream ended, None while one goes on. end_reason: why it did (schemas.media.EosReason),
    None before its end is known. repairs: kinds of damage that was repaired in its streams' starts.
    duration_ms: audio of all parts together.
    tracks, summary and times are the first part's; `parts` has everyone's.
    """

    id: str
    tenant: str
    carrier: str
    status: Status
    failed_stage: str | None = None
    failed_reason: str | None = None
    started_at_ms: int
    ended_at_ms: int | None = None
    duration_ms: int = 0
    from_number: str = ""
    to_number: str = ""
    tracks: list[TrackOutline] = Field(default_factory=list)
    summary: SummaryDoc | None = None
    end_reason: str | None = None
    repairs: list[str] = Field(default_factory=list)
    times: dict[str, int] = Field(default_factory=dict)
    parts: list[PartDoc] = Field(default_factory=list)
    usage: list[UsageLine] = Field(default_factory=list)


def started_at_ms(event: Event) -> int:
    """The earliest time (ms since the epoch) at which the event knows its call to have been going on."""
    if isinstance(event, RecordingReady):
        return event.started_at_ms
    if isinstance(event, (TranscriptReady, SummaryReady, EmbeddingReady)):
        return event.call_started_at_ms
    return event.occurred_at_ms


def unique(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """The events in the order in which they came true, each once: of several with one id, the one told first.
    Keypad digits are in the order in which they were pressed."""
    return _digits_as_pressed(list(_first_by_id(sorted(events, key=_order)).values()))


def build_call(events: Iterable[AnyEvent], usage: Iterable[UsageLine] = (), retries: Iterable[Retry] = ()) -> CallDoc:
    """The call that these events, all of one tenant's call and at least one, tell of."""
    told = unique(events)
    again = list(retries)
    started = _of_type(told, StreamStarted)
    ended = _of_type(told, StreamEnded)
    # The parties, by the stream's own word first.
    named: list[StreamStarted | CallStatusReported] = [*started, *_of_type(told, CallStatusReported)]
    recordings = _of_type(told, RecordingReady)
    lines = sorted(usage, key=lambda line: line.key)
    billed = {line.key for line in lines}
    parts = [
        _build_part(
            part,
            [event for event in told if event.part == part],
            billed,
            [retry for retry in again if retry.part == part],
        )
        for part in _part_numbers(told)
    ]
    # A part without any result is one as long as it has failed.
    parts = [part for part in parts if part.status != "live"]
    live = _is_live(started, recordings)
    status, failure = _call_status(parts, live)
    ended_at_ms = _ended_at_ms(started, ended, recordings, live)
    first = parts[0] if parts else None
    return CallDoc(
        id=told[0].call_id,
        tenant=told[0].tenant,
        carrier=_carrier(started, recordings),
        status=status,
        failed_stage=failure.failed_stage if failure else None,
        failed_reason=failure.failed_reason if failure else None,
        started_at_ms=min(started_at_ms(event) for event in told),
        ended_at_ms=ended_at_ms,
        duration_ms=sum(part.duration_ms for part in parts),
        from_number=next((event.from_number for event in named if event.from_number), ""),
        to_number=next((event.to_number for event in named if event.to_number), ""),
        tracks=first.tracks if first else [],
        summary=first.summary if first else None,
        end_reason=ended[-1].reason if ended and ended_at_ms is not None else None,
        repairs=sorted({kind for event in started for kind in event.repairs}),
        times=first.times if first else {},
        parts=parts,
        usage=lines,
    )


def _order(event: Event) -> tuple[int, str, str]:
    # The JSON decides between different tellings of one fact at the same time, so that the order is total.
    return event.occurred_at_ms, event.event_id, event.model_dump_json()


# Digits of one stream that come within so many ms of each other may have overtaken each other on their way.
_BURST_MS = 1_000


def _digits_as_pressed(events: list[AnyEvent]) -> list[AnyEvent]:
    """The events with each stream's digits in their own order: several may have come in one millisecond, and some
    carriers do not keep the order. A digit that comes long after another one was pressed after it, whatever the
    carrier's number is: the numbers begin again when a stream's socket is cut."""
    places: dict[tuple[str, str, str], list[list[int]]] = {}  # of each stream: where the digits of each burst are
    for place, event in enumerate(events):
        if not isinstance(event, DtmfReceived):
            continue
        bursts = places.setdefault((event.tenant, event.call_id, event.stream_id), [])
        if not bursts or event.occurred_at_ms - events[bursts[-1][-1]].occurred_at_ms > _BURST_MS:
            bursts.append([])
        bursts[-1].append(place)
    ordered = list(events)
    for burst in (burst for bursts in places.values() for burst in bursts):
        digits = [event for place in burst if isinstance(event := events[place], DtmfReceived)]
        # Without a carrier's number in all of them the order in which they came is the best that is known.
        numbered = all(digit.seq for digit in digits)
        digits.sort(key=lambda digit: (digit.seq if numbered else 0, digit.number, digit.event_id))
        for place, digit in zip(burst, digits, strict=True):
            ordered[place] = digit
    return ordered


def _first_by_id(events: Iterable[AnyEvent]) -> dict[str, AnyEvent]:
    first: dict[str, AnyEvent] = {}
    for event in events:
        first.setdefault(event.event_id, event)
    return first


def _of_type(events: Iterable[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def _last(events: Iterable[Event], kind: type[E]) -> E | None:
    return next(reversed(_of_type(events, kind)), None)


def _part_numbers(events: Iterable[Event]) -> list[int]:
    """Parts with a result or a failure of their own. Streams do not make one: the gateway does not know parts."""
    return sorted(
        {
            event.part
            for event in events
            if isinstance(event, tuple(SUCCESS.values())) or (isinstance(event, StageFailed) and event.stage in SUCCESS)
        }
    )


def _carrier(started: list[StreamStarted], recordings: list[RecordingReady]) -> str:
    if started:
        return started[0].carrier
    return recordings[0].carrier if recordings else ""


def _is_live(started: list[StreamStarted], recordings: list[RecordingReady]) -> bool:
    """Whether a stream goes on that no recording has yet. A recording's `ended_at_ms` is the end of its last stream:
    a stream that began later belongs to a part that is still to be recorded."""
    if not started:
        return False
    recorded_to = max((recording.ended_at_ms for recording in recordings), default=None)
    return recorded_to is None or started[-1].occurred_at_ms > recorded_to


def _ended_at_ms(
    started: list[StreamStarted], ended: list[StreamEnded], recordings: list[RecordingReady], live: bool
) -> int | None:
    """When the last stream ended, by the recordings or, before those, by the streams' own word."""
    over = {event.stream_id for event in ended}
    if live and any(event.stream_id not in over for event in started):
        return None
    return max((*(e.occurred_at_ms for e in ended), *(r.ended_at_ms for r in recordings)), default=None)


def _build_part(part: int, events: list[AnyEvent], billed: Set[str], retries: list[Retry]) -> PartDoc:
    recording = _last(events, RecordingReady)
    transcript = current_transcript(events)
    summary = current_summary(events, transcript)
    embedding = _embedding(events, transcript)
    failure = _failure(events, retries)
    times = {"recorded": recording, "transcribed": transcript, "summarized": summary, "embedded": embedding}
    return PartDoc(
        part=part,
        status="failed" if failure else _reached(recording, transcript, summary, embedding, billed),
        failed_stage=failure.stage if failure else None,
        failed_reason=failure.reason if failure else None,
        failed_at_ms=failure.at_ms if failure else None,
        started_at_ms=recording.started_at_ms if recording else None,
        ended_at_ms=recording.ended_at_ms if recording else None,
        duration_ms=recording.duration_ms if recording else 0,
        rate_hz=recording.rate_hz if recording else None,
        close_reason=recording.close_reason if recording else None,
        recording=recording.audio if recording else None,
        peaks=recording.peaks if recording else None,
        manifest=recording.manifest if recording else None,
        tracks=recording.tracks if recording else [],
        transcript=_transcript(transcript) if transcript else None,
        summary=_summary(summary) if summary else None,
        times={name: event.occurred_at_ms for name, event in times.items() if event},
        versions=versions(events),
        embedded_by=sorted(
            {
                event.config_hash
                for event in _of_type(events, EmbeddingReady)
                if transcript and event.transcript_id == transcript.transcript_id
            }
        ),
    )


def _embedding(events: list[AnyEvent], transcript: TranscriptReady | None) -> EmbeddingReady | None:
    """The event that made the transcript that counts searchable, or, as long as there is none, any transcript."""
    made = _of_type(events, EmbeddingReady)
    of_transcript = [event for event in made if transcript and event.transcript_id == transcript.transcript_id]
    return next(iter(of_transcript or made), None)


def _reached(
    recording: RecordingReady | None,
    transcript: TranscriptReady | None,
    summary: SummaryReady | None,
    embedding: EmbeddingReady | None,
    billed: Set[str],
) -> Status:
    """How far the part is. A later stage's result proves the earlier ones, whose events may still be on their way.
    Complete is what has its line on the bill, too: who waits for it finds everything there."""
    if summary:
        on_the_bill = f"transcription_{summary.transcript_id}" in billed
        return "complete" if embedding and on_the_bill else "summarized"
    if transcript or embedding:
        return "transcribed"
    return "recorded" if recording else "live"


def _failure(events: list[AnyEvent], retries: list[Retry]) -> _Failure | None:
    """The latest failure of a stage that has no success, however early that was, and that nobody is trying again: its
    letter was not given back since, and no replay does the stage's work. A replay that failed since is the latest."""
    found: dict[str, _Failure | None] = {}
    since_ms: dict[str, int] = {}  # by stage: its latest failure, or when that was given back
    stages: dict[str, str] = {}  # of letters, by id
    for event in events:
        if isinstance(event, StageFailed) and event.stage in SUCCESS:
            stages[event.event_id] = event.stage
            found[event.stage] = _Failure(event.stage, event.error, event.occurred_at_ms, event.event_id)
            since_ms[event.stage] = event.occurred_at_ms
        elif isinstance(event, LetterReplayed) and event.letter_id in stages:
            found[stages[event.letter_id]] = None
            since_ms[stages[event.letter_id]] = event.occurred_at_ms
    for stage in list(found):
        of_stage = [retry for retry in retries if stage in retry.stages]
        if _of_type(events, SUCCESS[stage]) or any(retry.under_way for retry in of_stage):
            found[stage] = None
            continue
        for retry in sorted(of_stage, key=lambda retry: retry.at_ms):
            if retry.at_ms >= since_ms[stage]:
                found[stage] = _Failure(retry.stage or stage, retry.reason, retry.at_ms, "")
    left = [failure for failure in found.values() if failure]
    return max(left, key=lambda failure: (failure.at_ms, failure.event_id), default=None)


def _call_status(parts: list[PartDoc], live: bool) -> tuple[Status, PartDoc | None]:
    failed = [part for part in parts if part.status == "failed"]
    if failed:
        return "failed", max(failed, key=lambda part: part.failed_at_ms or 0)
    if live or not parts:
        return "live", None
    return min((part.status for part in parts), key=_PROGRESS.index), None


def _transcript(event: TranscriptReady) -> TranscriptDoc:
    return TranscriptDoc(
        transcript_id=event.transcript_id,
        object=event.transcript,
        language=event.language,
        provider=event.provider,
        model=event.model,
        segments=event.segments,
        words=event.words,
        engine_ms=event.engine_ms,
    )


def _summary(event: SummaryReady) -> SummaryDoc:
    return SummaryDoc(
        abstract=event.abstract,
        key_points=event.key_points,
        action_items=event.action_items,
        topics=event.topics,
        actions=event.actions,
        sentiment=event.sentiment,
        outcome=event.outcome,
        fields=event.fields,
    )
