"""Builds the document of a call from its events. Pure.

The document does not depend on the order of the events or on duplicates, since an at-least-once log may deliver events
in any order and more than once. Events with one `event_id` count once. Of several events for one fact (a stage that ran
again) the one that occurred last decides.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from pydantic import Field

from schemas.events import (
    AnyEvent,
    CallStatusReported,
    DtmfReceived,
    EmbeddingReady,
    Event,
    Frozen,
    LetterReplayed,
    ObjectRef,
    RecordingReady,
    StageFailed,
    StreamEnded,
    StreamStarted,
    SummaryContent,
    SummaryReady,
    TrackOutline,
    TranscriptReady,
    VersionChosen,
)
from schemas.usage_keys import UsageKey, UsageKind
from sinks.clickhouse.result_versions import VersionDoc, current_summary, current_transcript, versions

Status = Literal["live", "recorded", "transcribed", "summarized", "complete", "failed"]

# From the least to the most advanced; the status of a call is that of its least advanced part.
_PROGRESS: Final[tuple[Status, ...]] = ("live", "recorded", "transcribed", "summarized", "complete")

# Event that heals a stage's failure. Failures of stages that are not listed (usage, analytics) do not fail the call.
SUCCESS: Final[dict[str, type[Event]]] = {
    "recorder": RecordingReady,
    "transcribe": TranscriptReady,
    "summarize": SummaryReady,
    "embed": EmbeddingReady,
}

# Events that do not prove that the call existed.
NOT_EVIDENCE: Final = (StageFailed, LetterReplayed, CallStatusReported, VersionChosen)

E = TypeVar("E", bound=Event)


class TranscriptDoc(Frozen):
    """Location and origin of a part's transcript. segments, words: numbers of them; engine_ms: the engine's time."""

    transcript_id: str
    object: ObjectRef
    language: str
    provider: str
    model: str
    segments: int
    words: int
    engine_ms: int


class SummaryDoc(SummaryContent):
    """Summary of a call or a part."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Replay that repeats a part's work.

    stages: the stages whose work it repeats. in_progress: True until it ends. If it failed: `at_ms` (ms since the
    epoch), `stage` ("" if unknown) and `reason`.
    """

    part: int
    stages: frozenset[str]
    in_progress: bool
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
    """One recording of the call: a call has several if its carrier reconnected after the recording was closed.

    started_at_ms, ended_at_ms: wall clock of the recording, ms since the epoch. duration_ms: length of its audio.
    times: time of each stage's result, ms since the epoch, by status reached ("recorded", "transcribed", "summarized",
    "embedded"); without stages that have no result. versions: all versions of transcript and summary.
    embedded_by: hashes of the configurations with which the current transcript was embedded.
    failed_stage, failed_reason, failed_at_ms: the latest failure that is not healed and not being retried.
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
    """Ledger line. Amounts are exact decimal strings.

    replay_id: the replay that caused the line, "" for live processing. charged_at_ms: ms since the epoch.
    """

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
    """Call. `id` is the carrier's call id.

    ended_at_ms: end of the last stream, None while a stream is open. end_reason: why it ended
    (schemas.media.EosReason), None until its end is known. repairs: kinds of damage that were repaired in the start
    messages of its streams. duration_ms: audio of all parts together.
    tracks, summary and times are those of the first part; `parts` has those of every part.
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
    """Returns the earliest time (ms since the epoch) at which the call existed according to the event."""
    if isinstance(event, RecordingReady):
        return event.started_at_ms
    if isinstance(event, (TranscriptReady, SummaryReady, EmbeddingReady)):
        return event.call_started_at_ms
    return event.occurred_at_ms


def unique(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Returns the events in the order in which they occurred, without duplicates.

    Of several events with one id the earliest is kept. Keypad digits are in the order in which they were pressed.
    """
    return _digits_as_pressed(list(_first_by_id(sorted(events, key=_order)).values()))


def build_call(events: Iterable[AnyEvent], usage: Iterable[UsageLine] = (), retries: Iterable[Retry] = ()) -> CallDoc:
    """Returns the call with these events: at least one, all of one call of one tenant."""
    ordered = unique(events)
    all_retries = list(retries)
    started = _of_type(ordered, StreamStarted)
    ended = _of_type(ordered, StreamEnded)
    # Sources of the parties' numbers: the streams first.
    named: list[StreamStarted | CallStatusReported] = [*started, *_of_type(ordered, CallStatusReported)]
    recordings = _of_type(ordered, RecordingReady)
    lines = sorted(usage, key=lambda line: line.key)
    charged = {line.key for line in lines}
    parts = [
        _build_part(
            part,
            [event for event in ordered if event.part == part],
            charged,
            [retry for retry in all_retries if retry.part == part],
        )
        for part in _part_numbers(ordered)
    ]
    # A part without results counts only while it is failed.
    parts = [part for part in parts if part.status != "live"]
    live = _is_live(started, recordings)
    status, failure = _call_status(parts, live)
    ended_at_ms = _ended_at_ms(started, ended, recordings, live)
    first = parts[0] if parts else None
    return CallDoc(
        id=ordered[0].call_id,
        tenant=ordered[0].tenant,
        carrier=_carrier(started, recordings),
        status=status,
        failed_stage=failure.failed_stage if failure else None,
        failed_reason=failure.failed_reason if failure else None,
        started_at_ms=min(started_at_ms(event) for event in ordered),
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
    # The JSON orders different events of one id and time, so that the order is total.
    return event.occurred_at_ms, event.event_id, event.model_dump_json()


# Digits of one stream that arrive within this time of each other may be out of order.
_BURST_MS = 1_000


def _digits_as_pressed(events: list[AnyEvent]) -> list[AnyEvent]:
    """Returns the events with each stream's digits in the order in which they were pressed.

    Several digits may arrive in one millisecond, and some carriers do not keep the order. A digit that arrives long
    after another one was pressed after it, whatever the carrier's sequence numbers say: they restart when a stream's
    socket is reconnected.
    """
    indices: dict[tuple[str, str, str], list[list[int]]] = {}  # by stream: indices of the digits of each burst
    for index, event in enumerate(events):
        if not isinstance(event, DtmfReceived):
            continue
        bursts = indices.setdefault((event.tenant, event.call_id, event.stream_id), [])
        if not bursts or event.occurred_at_ms - events[bursts[-1][-1]].occurred_at_ms > _BURST_MS:
            bursts.append([])
        bursts[-1].append(index)
    ordered = list(events)
    for burst in (burst for bursts in indices.values() for burst in bursts):
        digits = [event for index in burst if isinstance(event := events[index], DtmfReceived)]
        # Unless all digits have the carrier's sequence number, the order of arrival is used.
        numbered = all(digit.seq for digit in digits)
        digits.sort(key=lambda digit: (digit.seq if numbered else 0, digit.number, digit.event_id))
        for index, digit in zip(burst, digits, strict=True):
            ordered[index] = digit
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
    """Returns the parts with a result or a failure. Streams do not create parts: the gateway does not know parts."""
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
    """True if a stream is not in any recording yet.

    A recording's `ended_at_ms` is the end of its last stream: a stream that began later belongs to a part that is not
    recorded yet.
    """
    if not started:
        return False
    recorded_to = max((recording.ended_at_ms for recording in recordings), default=None)
    return recorded_to is None or started[-1].occurred_at_ms > recorded_to


def _ended_at_ms(
    started: list[StreamStarted], ended: list[StreamEnded], recordings: list[RecordingReady], live: bool
) -> int | None:
    """Returns the end of the last stream, by the recordings or, before there are any, by the streams' events."""
    over = {event.stream_id for event in ended}
    if live and any(event.stream_id not in over for event in started):
        return None
    return max((*(e.occurred_at_ms for e in ended), *(r.ended_at_ms for r in recordings)), default=None)


def _build_part(part: int, events: list[AnyEvent], charged: Set[str], retries: list[Retry]) -> PartDoc:
    recording = _last(events, RecordingReady)
    transcript = current_transcript(events)
    summary = current_summary(events, transcript)
    embedding = _embedding(events, transcript)
    failure = _failure(events, retries)
    times = {"recorded": recording, "transcribed": transcript, "summarized": summary, "embedded": embedding}
    return PartDoc(
        part=part,
        status="failed" if failure else _reached(recording, transcript, summary, embedding, charged),
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
    """Returns the event that made the current transcript searchable. Without one: any transcript."""
    made = _of_type(events, EmbeddingReady)
    of_transcript = [event for event in made if transcript and event.transcript_id == transcript.transcript_id]
    return next(iter(of_transcript or made), None)


def _reached(
    recording: RecordingReady | None,
    transcript: TranscriptReady | None,
    summary: SummaryReady | None,
    embedding: EmbeddingReady | None,
    charged: Set[str],
) -> Status:
    """Returns the status that the part has reached.

    A result of a later stage proves the earlier results, whose events may arrive later. A part is complete only with
    its ledger line, so that a client that waits for this status finds everything.
    """
    if summary:
        has_ledger_line = str(UsageKey(UsageKind.TRANSCRIPTION, summary.transcript_id)) in charged
        return "complete" if embedding and has_ledger_line else "summarized"
    if transcript or embedding:
        return "transcribed"
    return "recorded" if recording else "live"


def _failure(events: list[AnyEvent], retries: list[Retry]) -> _Failure | None:
    """Returns the latest failure that is not healed and not being retried, or None.

    Any success of the stage heals its failure, even an earlier one. A failure is being retried after its dead letter
    was replayed, and while a replay repeats the stage's work. A replay that failed afterwards is the latest failure.
    """
    found: dict[str, _Failure | None] = {}
    since_ms: dict[str, int] = {}  # by stage: time of its latest failure, or of the replay of that dead letter
    stages: dict[str, str] = {}  # stage of each dead letter, by id
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
        if _of_type(events, SUCCESS[stage]) or any(retry.in_progress for retry in of_stage):
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
    return SummaryDoc(**event.content)
