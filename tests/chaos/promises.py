"""Promises that can be checked from the sent frames and the log. Pure functions."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from schemas.events import (
    AnyEvent,
    DtmfReceived,
    EmbeddingReady,
    Event,
    RecordingReady,
    StreamEnded,
    StreamStarted,
    SummaryReady,
    TranscriptReady,
    UsageRecorded,
)
from schemas.topics import Topic
from tests.chaos.carrier import Call, Ending, Stream
from tests.chaos.log_reader import LogCopy
from tests.chaos.truth import Part, frames_of

E = TypeVar("E", bound=Event)

# What a gateway may lose when it is killed: the window that is being merged (500 ms) and its patience with it
# (100 ms), the next look at the windows (100 ms), and the way to the log and its answer, on a machine that is busy.
KILL_BOUND_S = 1.0
# Asked to end it hands on all it has read; what the carrier sends meanwhile it does not hear.
END_BOUND_S = 0.5

_AWAY_S = 30.0  # so long a gateway may take to be started again: the supervisor's longest pause, and a busy machine


class Wrong(StrEnum):
    """Kind of broken promise."""

    AUDIO = "wrong audio"
    MISSING = "missing"
    DOUBLED = "doubled"
    CHARGE = "wrong charge"
    ORPHAN = "orphan"
    IN_FLIGHT = "in flight"
    DEAD_LETTER = "dead letter"
    DISTURBED = "call disturbed"  # the gateway broke a call although nothing had been done to it


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise and the call."""

    kind: Wrong
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class GatewayEnd:
    """Time (time.monotonic()) when the gateway was killed or ended, and the audio that it may lose."""

    at: float
    bound_s: float


@dataclass(slots=True)
class Measured:
    """Measurements of a run.

    lost_ms: audio of calls that was lost with the gateway. oldest_lost_s: time from the sending of the oldest lost
    frame to the kill. away_s: longest time without accepted calls, as far as calls were tried. retold: repeated events
    on the log. checked: number of comparisons by kind.
    """

    lost_ms: int = 0
    oldest_lost_s: float = 0.0
    streams_broken: int = 0
    away_s: float = 0.0
    retold: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)


def refusals(calls: Sequence[Call], ends: Sequence[GatewayEnd], measured: Measured) -> Iterator[Finding]:
    """Checks that calls are refused only while the gateway restarts."""
    for call in calls:
        for at in call.refused:
            away_s = min((at - end.at for end in ends if end.at <= at), default=_AWAY_S + 1)
            measured.away_s = max(measured.away_s, away_s)
            if away_s > _AWAY_S:
                yield Finding(Wrong.DISTURBED, call.plan.call_id, f"not taken, {away_s:.1f} s after the gateway's end")


def audio_on_the_log(
    calls: Sequence[Call], ends: Sequence[GatewayEnd], tape: LogCopy, measured: Measured
) -> Iterator[Finding]:
    """Checks the promise of the gateway: exactly the frames that a carrier sent are on the log."""
    for call in calls:
        records = [record for _, record in tape.media.get(call.plan.call_id, ())]
        known = {stream.stream_id for stream in call.streams}
        for record in records:
            if record.stream_id and record.stream_id not in known:
                yield Finding(Wrong.ORPHAN, call.plan.call_id, f"stream {record.stream_id} was never sent")
        for stream in call.streams:
            yield from _stream_audio(call, stream, frames_of(records, stream.stream_id), ends, measured)


def _stream_audio(
    call: Call,
    stream: Stream,
    logged: Collection[tuple[str, int, bytes]],
    ends: Sequence[GatewayEnd],
    measured: Measured,
) -> Iterator[Finding]:
    left_at: dict[tuple[str, int, bytes], float] = {}
    for at, frame in stream.sent:  # a frame that was repeated counts from when it first left
        left_at.setdefault((frame.track, frame.ts_ms, frame.payload), at)
    measured.checked["frames"] += len(left_at)
    for track, ts_ms, _ in set(logged) - left_at.keys():
        yield Finding(Wrong.AUDIO, call.plan.call_id, f"{track} frame at {ts_ms} ms on the log was not sent like that")
    lost = [at for frame, at in left_at.items() if frame not in logged]
    end = _gateway_end(stream, ends)
    if stream.ending is Ending.BROKEN:
        measured.streams_broken += 1
        if end is None:
            yield Finding(Wrong.DISTURBED, call.plan.call_id, f"broken by the gateway: {stream.why}")
    if end is not None and lost:
        measured.lost_ms += 20 * len(lost)
        measured.oldest_lost_s = max(measured.oldest_lost_s, end.at - min(lost))
        lost = [at for at in lost if at < end.at - end.bound_s]
    if lost:
        yield Finding(
            Wrong.MISSING, call.plan.call_id, f"{len(lost)} of {len(left_at)} frames of {stream.stream_id} never came"
        )


def _gateway_end(stream: Stream, ends: Sequence[GatewayEnd]) -> GatewayEnd | None:
    """Returns the end of the gateway that may have lost audio of the stream, up to a second after its end."""
    return next((end for end in ends if stream.began - 1 < end.at < stream.ended + 1), None)


def stream_events(
    calls: Sequence[Call], ends: Sequence[GatewayEnd], tape: LogCopy, measured: Measured
) -> Iterator[Finding]:
    """Checks that start, end and digits of a stream have one event each.

    A gateway that ends within a second of the stream may lose the event of its end, like its audio.
    """
    told = tape.of(Topic.CALL_EVENTS).values()
    started = Counter(event.stream_id for event in told if isinstance(event, StreamStarted))
    ended = Counter(event.stream_id for event in told if isinstance(event, StreamEnded))
    digits = Counter(event.stream_id for event in told if isinstance(event, DtmfReceived))
    for call in calls:
        for stream in call.streams:
            measured.checked["streams"] += 1
            counts = (started[stream.stream_id], ended[stream.stream_id], digits[stream.stream_id])
            if max(counts[:2]) > 1:
                yield Finding(Wrong.DOUBLED, call.plan.call_id, f"start, end of {stream.stream_id} told {counts[:2]}")
            untold = stream.ending is Ending.BROKEN or _gateway_end(stream, ends) is not None
            if not untold and counts != (1, 1, stream.digits):
                yield Finding(
                    Wrong.MISSING,
                    call.plan.call_id,
                    f"start, end, digits of {stream.stream_id}: {counts}, not {(1, 1, stream.digits)}",
                )


def results(tape: LogCopy, parts: Mapping[str, Sequence[Part]], measured: Measured) -> Iterator[Finding]:
    """Checks that each part of a call has one event of each stage, and that no event has no part."""
    expected = {(call_id, part.number) for call_id, found in parts.items() for part in found}
    measured.checked["parts"] = len(expected)
    for topic, kind in (
        (Topic.RECORDING_READY, RecordingReady),
        (Topic.TRANSCRIPT_READY, TranscriptReady),
        (Topic.SUMMARY_READY, SummaryReady),
        (Topic.EMBEDDING_READY, EmbeddingReady),
        (Topic.USAGE_RECORDED, UsageRecorded),
    ):
        told = Counter((event.call_id, event.part) for event in events_of(tape, topic, kind))
        for call_id, part in sorted(expected | told.keys()):
            count = told[call_id, part]
            if (call_id, part) not in expected:
                yield Finding(Wrong.ORPHAN, call_id, f"{topic} of part {part}, which the log does not have")
            elif count != 1:
                wrong = Wrong.MISSING if count == 0 else Wrong.CHARGE if kind is UsageRecorded else Wrong.DOUBLED
                yield Finding(wrong, call_id, f"{count} different {topic} of part {part}")


def orders(tape: LogCopy, ordered: Mapping[str, int], measured: Measured) -> Iterator[Finding]:
    """Checks that each job was ordered once at the paid provider. ordered: its counts by job key."""
    told = {event.transcript_id: event for event in events_of(tape, Topic.TRANSCRIPT_READY, TranscriptReady)}
    measured.checked["orders at the provider"] = sum(ordered.values())
    for key, count in ordered.items():
        if key not in told:
            yield Finding(Wrong.ORPHAN, key, "ordered at the provider, and there is no such transcript")
        elif count != 1:
            yield Finding(Wrong.CHARGE, told[key].call_id, f"ordered {count} times at the provider")
    for key, event in told.items():
        if event.duration_ms and key not in ordered:
            yield Finding(Wrong.MISSING, event.call_id, f"transcript {key} was never ordered")


def kept_orders(kept: Collection[str], noted: Collection[str]) -> Iterator[Finding]:
    """Checks that the provider keeps nothing of a finished call.

    kept: ids of the orders that it keeps. noted: ids of orders that it could not delete, which are deleted with later
    jobs.
    """
    for remote_id in sorted(set(kept) - set(noted)):
        yield Finding(Wrong.ORPHAN, remote_id, "the provider keeps this order, and it is not noted down")


def events_of(tape: LogCopy, topic: Topic, kind: type[E]) -> Iterable[E]:
    """Returns the distinct events of that kind on the topic."""
    events: Iterable[AnyEvent] = tape.of(topic).values()
    return [event for event in events if isinstance(event, kind)]
