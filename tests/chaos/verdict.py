"""Looks at everything that should be there, and at everything that should not."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from qdrant_client import QdrantClient

from audiotext.settings import Settings
from pipelines.turns import pieces_of
from schemas.artifacts import Transcript
from schemas.events import (
    AnyEvent,
    DtmfReceived,
    EmbeddingReady,
    Event,
    ObjectRef,
    RecordingReady,
    StreamEnded,
    StreamStarted,
    SummaryReady,
    TranscriptReady,
    UsageRecorded,
)
from schemas.ids import sha256_hex, uuid_of
from schemas.topics import Topic
from sinks.clickhouse.client import Database
from sinks.objects import ObjectStore, ObjectStoreError
from tests.chaos.carrier import Call, Ending, Stream
from tests.chaos.tape import Tape
from tests.chaos.truth import Part, frames_of, parts_of, wav_of

E = TypeVar("E", bound=Event)

# What a gateway may lose when it is killed: the window that is being merged (500 ms) and its patience with it
# (100 ms), the next look at the windows (100 ms), and the way to the log and its answer, on a machine that is busy.
KILL_BOUND_S = 1.0
# Asked to end it hands on all it has read; what the carrier sends meanwhile it does not hear.
END_BOUND_S = 0.5

_AWAY_S = 30.0  # so long a gateway may take to be started again: the supervisor's longest pause, and a busy machine


class Wrong(StrEnum):
    """A kind of broken promise."""

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
    """A broken promise, and to whom."""

    kind: Wrong
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class GatewayEnd:
    """When (time.monotonic()) the gateway was killed or ended, and what it may lose."""

    at: float
    bound_s: float


@dataclass(slots=True)
class Measured:
    """What came out beside right and wrong. lost_ms: audio of calls that the gateway took with it; oldest_lost_s:
    how long before the kill the oldest lost frame had left its carrier; away_s: how long the gateway took no calls at
    most, as far as anybody tried; retold: events on the log beyond the first of
    their kind; checked: how many of what were compared."""

    lost_ms: int = 0
    oldest_lost_s: float = 0.0
    streams_broken: int = 0
    away_s: float = 0.0
    retold: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All there is to look at. settings: of the running stack; status: each call's, as the API tells it; lag: per
    consumer group; bill: lines and units of the whole bill, as the API tells it."""

    calls: Sequence[Call]
    ends: Sequence[GatewayEnd]
    tape: Tape
    settings: Settings
    spool: Path
    lag: dict[str, int]
    status: Callable[[str], str | None]
    bill: Callable[[], Sequence[tuple[int, int, str]]]


def judge(evidence: Evidence) -> tuple[list[Finding], Measured]:
    """Every broken promise, and what was measured on the way."""
    measured = Measured()
    parts = {call.plan.call_id: parts_of(evidence.tape.media.get(call.plan.call_id, ())) for call in evidence.calls}
    findings = [
        *_refusals(evidence, measured),
        *_audio_on_the_log(evidence, measured),
        *_stream_events(evidence, measured),
        *_results(evidence, parts, measured),
        *_objects(evidence, parts, measured),
        *_vectors(evidence, measured),
        *_bill(evidence, measured),
        *_rest(evidence, parts, measured),
    ]
    for topic in Topic:
        if topic is not Topic.CALL_MEDIA:
            measured.retold[topic] = len(evidence.tape.events[topic]) - len(evidence.tape.of(topic))
    return findings, measured


def _refusals(evidence: Evidence, measured: Measured) -> Iterator[Finding]:
    """Nobody is refused but while the gateway is started again."""
    for call in evidence.calls:
        for at in call.refused:
            away_s = min((at - end.at for end in evidence.ends if end.at <= at), default=_AWAY_S + 1)
            measured.away_s = max(measured.away_s, away_s)
            if away_s > _AWAY_S:
                yield Finding(Wrong.DISTURBED, call.plan.call_id, f"not taken, {away_s:.1f} s after the gateway's end")


def _audio_on_the_log(evidence: Evidence, measured: Measured) -> Iterator[Finding]:
    """The gateway's promise: each frame that a carrier sent is on the log, and no other."""
    for call in evidence.calls:
        records = [record for _, record in evidence.tape.media.get(call.plan.call_id, ())]
        known = {stream.stream_id for stream in call.streams}
        for record in records:
            if record.stream_id and record.stream_id not in known:
                yield Finding(Wrong.ORPHAN, call.plan.call_id, f"stream {record.stream_id} was never sent")
        for stream in call.streams:
            yield from _stream_audio(call, stream, frames_of(records, stream.stream_id), evidence.ends, measured)


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
    end = next((end for end in ends if stream.began - 1 < end.at < stream.ended + 1), None)
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


def _stream_events(evidence: Evidence, measured: Measured) -> Iterator[Finding]:
    told = evidence.tape.of(Topic.CALL_EVENTS).values()
    started = Counter(event.stream_id for event in told if isinstance(event, StreamStarted))
    ended = Counter(event.stream_id for event in told if isinstance(event, StreamEnded))
    digits = Counter(event.stream_id for event in told if isinstance(event, DtmfReceived))
    for call in evidence.calls:
        for stream in call.streams:
            measured.checked["streams"] += 1
            counts = (started[stream.stream_id], ended[stream.stream_id], digits[stream.stream_id])
            if max(counts[:2]) > 1:
                yield Finding(Wrong.DOUBLED, call.plan.call_id, f"start, end of {stream.stream_id} told {counts[:2]}")
            if stream.ending is not Ending.BROKEN and counts != (1, 1, stream.digits):
                yield Finding(
                    Wrong.MISSING,
                    call.plan.call_id,
                    f"start, end, digits of {stream.stream_id}: {counts}, not {(1, 1, stream.digits)}",
                )


def _results(evidence: Evidence, parts: dict[str, list[Part]], measured: Measured) -> Iterator[Finding]:
    """One event of each stage per part of a call, and none without one."""
    expected = {(call_id, part.number) for call_id, found in parts.items() for part in found}
    measured.checked["parts"] = len(expected)
    for topic, kind in (
        (Topic.RECORDING_READY, RecordingReady),
        (Topic.TRANSCRIPT_READY, TranscriptReady),
        (Topic.SUMMARY_READY, SummaryReady),
        (Topic.EMBEDDING_READY, EmbeddingReady),
        (Topic.USAGE_RECORDED, UsageRecorded),
    ):
        told = Counter((event.call_id, event.part) for event in _of(evidence.tape, topic, kind))
        for call_id, part in sorted(expected | told.keys()):
            count = told[call_id, part]
            if (call_id, part) not in expected:
                yield Finding(Wrong.ORPHAN, call_id, f"{topic} of part {part}, which the log does not have")
            elif count != 1:
                wrong = Wrong.MISSING if count == 0 else Wrong.CHARGE if kind is UsageRecorded else Wrong.DOUBLED
                yield Finding(wrong, call_id, f"{count} different {topic} of part {part}")


def _objects(evidence: Evidence, parts: dict[str, list[Part]], measured: Measured) -> Iterator[Finding]:
    """Every WAV to the byte; every object that an event names is there as named; no other is."""
    store = ObjectStore(evidence.settings.s3)
    named: set[str] = {".ready"}
    for event in _of(evidence.tape, Topic.RECORDING_READY, RecordingReady):
        named |= {event.audio.key, event.peaks.key, event.manifest.key}
        part = next((part for part in parts.get(event.call_id, ()) if part.number == event.part), None)
        if part is None:
            continue  # told by _results
        wav = wav_of(part)
        measured.checked["recordings"] += 1
        measured.checked["WAV bytes"] += len(wav)
        if event.audio.sha256 != sha256_hex(wav) or event.duration_ms != (len(wav) - 44) // 32:
            yield Finding(Wrong.AUDIO, event.call_id, f"part {event.part} is not what was sent: {event.duration_ms} ms")
        for ref in (event.audio, event.peaks, event.manifest):
            yield from _as_named(store, event, ref)
    for transcribed in _of(evidence.tape, Topic.TRANSCRIPT_READY, TranscriptReady):
        named |= {transcribed.transcript.key, *_beside(transcribed)}
        yield from _as_named(store, transcribed, transcribed.transcript)
    for summarized in _of(evidence.tape, Topic.SUMMARY_READY, SummaryReady):
        named.add(summarized.summary.key)
        yield from _as_named(store, summarized, summarized.summary)
    for key in store.list():
        measured.checked["objects"] += 1
        if key not in named:
            yield Finding(Wrong.ORPHAN, key, "an object that no event names")


def _beside(event: TranscriptReady) -> set[str]:
    """What may lie beside a transcript: that its job was ordered, and for how much."""
    stem = event.transcript.key.removesuffix(".json")
    return {f"{stem}.intent.json", f"{stem}.charge.json"}


def _as_named(store: ObjectStore, event: Event, ref: ObjectRef) -> Iterator[Finding]:
    try:
        store.get_verified(ref)
    except ObjectStoreError as error:
        yield Finding(Wrong.MISSING, event.call_id, str(error))


def _vectors(evidence: Evidence, measured: Measured) -> Iterator[Finding]:
    """The points are those of the transcripts."""
    store = ObjectStore(evidence.settings.s3)
    expected: dict[str, str] = {}
    for event in _of(evidence.tape, Topic.TRANSCRIPT_READY, TranscriptReady):
        transcript = Transcript.model_validate_json(store.get(event.transcript.key))
        for index, _ in enumerate(pieces_of(transcript)):
            expected[uuid_of(event.tenant, event.call_id, event.part, event.transcript_id, index)] = event.call_id
    found = Counter(_points(evidence.settings))
    measured.checked["vectors"] = found.total()
    for point in found.keys() - expected.keys():
        yield Finding(Wrong.ORPHAN, point, "a vector of no transcript")
    for point in expected.keys() - found.keys():
        yield Finding(Wrong.MISSING, expected[point], f"vector {point}")
    for point, count in found.items():
        if count > 1:
            yield Finding(Wrong.DOUBLED, point, f"{count} vectors")


def _points(settings: Settings) -> Iterator[str]:
    key = settings.qdrant.api_key
    with warnings.catch_warnings(action="ignore"):  # a key without TLS: inside this machine
        client = QdrantClient(url=settings.qdrant.url, api_key=key.get_secret_value() if key else None, timeout=30)
    for collection in client.get_collections().collections:
        offset = None
        while True:
            points, offset = client.scroll(collection.name, limit=200, offset=offset, with_payload=False)
            yield from (str(point.id) for point in points)
            if offset is None:
                break
    client.close()


def _bill(evidence: Evidence, measured: Measured) -> Iterator[Finding]:
    """The ledger's lines are the distinct lines on the log, and the bill is their sum."""
    lines = {event.key: event for event in _of(evidence.tape, Topic.USAGE_RECORDED, UsageRecorded)}
    database = Database(evidence.settings.clickhouse)
    booked = {str(row["key"]): row for row in database.query("SELECT key, units, price FROM ledger FINAL")}
    measured.checked["ledger lines"] = len(booked)
    for key in lines.keys() - booked.keys():
        yield Finding(Wrong.MISSING, lines[key].call_id, f"ledger line {key}")
    for key in booked.keys() - lines.keys():
        yield Finding(Wrong.ORPHAN, key, "a ledger line that nobody told")
    for key in lines.keys() & booked.keys():
        line, row = lines[key], booked[key]
        if line.units != row["units"] or line.price != Decimal(str(row["price"])):
            yield Finding(Wrong.CHARGE, line.call_id, f"{key}: {row} for {line.units} units, {line.price}")
    by_recording = {
        (event.call_id, event.part): event for event in _of(evidence.tape, Topic.RECORDING_READY, RecordingReady)
    }
    for line in lines.values():
        recording = by_recording.get((line.call_id, line.part))
        if recording is not None and line.units != recording.duration_ms * 50 // 60_000:
            yield Finding(Wrong.CHARGE, line.call_id, f"{line.units} units for {recording.duration_ms} ms")
    total = [(len(lines), sum(line.units for line in lines.values()), sum(line.price for line in lines.values()))]
    told = [(count, units, Decimal(price)) for count, units, price in evidence.bill()]
    if told != (total if lines else []):
        yield Finding(Wrong.CHARGE, "the whole bill", f"{told}, not {total}")


def _rest(evidence: Evidence, parts: dict[str, list[Part]], measured: Measured) -> Iterator[Finding]:
    """Nothing is in flight for ever, nothing is left behind, and the API says so."""
    for group, lag in evidence.lag.items():
        yield Finding(Wrong.IN_FLIGHT, group, f"{lag} records not consumed")
    for left in evidence.spool.iterdir():
        yield Finding(Wrong.ORPHAN, left.name, "left in the recorder's spool")
    for letter in evidence.tape.of(Topic.DEAD_LETTERS).values():
        yield Finding(Wrong.DEAD_LETTER, letter.call_id, str(letter))
    heard: dict[str, int] = defaultdict(int)
    for event in evidence.tape.of(Topic.CALL_EVENTS).values():
        heard[event.call_id] += 1
    for call_id, found in parts.items():
        measured.checked["calls"] += 1
        for part in found:
            if not part.closed:
                yield Finding(Wrong.IN_FLIGHT, call_id, f"part {part.number} was never closed")
        status = evidence.status(call_id)
        if status != "complete" and (found or heard[call_id]):
            yield Finding(Wrong.IN_FLIGHT, call_id, f"is {status} in the API; parts on the log: {len(found)}")


def _of(tape: Tape, topic: Topic, kind: type[E]) -> Iterable[E]:
    events: Iterable[AnyEvent] = tape.of(topic).values()
    return [event for event in events if isinstance(event, kind)]
