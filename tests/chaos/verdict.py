"""Checks everything that must exist, and everything that must not."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from core.settings import Settings
from pipelines.embed.chunking import chunks_of
from schemas.artifacts import RELEASES, Transcript, job_record_key, remote_id_of, stage_record_key
from schemas.events import Event, ObjectRef, RecordingReady, SummaryReady, TranscriptReady, UsageRecorded
from schemas.ids import sha256_hex, uuid_of
from schemas.topics import Topic
from sinks.clickhouse.client import Database
from sinks.object_store import ObjectStore, ObjectStoreError
from sinks.qdrant.store import connect
from tests.chaos.carrier import Call
from tests.chaos.log_reader import LogCopy
from tests.chaos.promises import (
    Finding,
    GatewayEnd,
    Measured,
    Wrong,
    audio_on_the_log,
    events_of,
    kept_orders,
    orders,
    refusals,
    results,
    stream_events,
)
from tests.chaos.truth import Part, parts_of, wav_of


@dataclass(frozen=True, slots=True)
class Evidence:
    """Data to check.

    settings: of the running stack. status: of each call in the API. lag: by consumer group. bill: lines and units of
    the whole bill in the API. orders: orders of each job at the provider, by job key. kept: ids of the orders that the
    provider still keeps.
    """

    calls: Sequence[Call]
    ends: Sequence[GatewayEnd]
    tape: LogCopy
    settings: Settings
    spool: Path
    lag: dict[str, int]
    status: Callable[[str], str | None]
    bill: Callable[[], Sequence[tuple[int, int, str]]]
    orders: Mapping[str, int]
    kept: Collection[str]


def judge(evidence: Evidence) -> tuple[list[Finding], Measured]:
    """Returns all broken promises and the measurements."""
    measured = Measured()
    parts = {call.plan.call_id: parts_of(evidence.tape.media.get(call.plan.call_id, ())) for call in evidence.calls}
    findings = [
        *refusals(evidence.calls, evidence.ends, measured),
        *audio_on_the_log(evidence.calls, evidence.ends, evidence.tape, measured),
        *stream_events(evidence.calls, evidence.ends, evidence.tape, measured),
        *results(evidence.tape, parts, measured),
        *orders(evidence.tape, evidence.orders, measured),
        *_objects(evidence, parts, measured),
        *_vectors(evidence, measured),
        *_bill(evidence, measured),
        *_rest(evidence, parts, measured),
    ]
    for topic in Topic:
        if topic is not Topic.CALL_MEDIA:
            measured.retold[topic] = len(evidence.tape.events[topic]) - len(evidence.tape.of(topic))
    return findings, measured


def _objects(evidence: Evidence, parts: Mapping[str, Sequence[Part]], measured: Measured) -> Iterator[Finding]:
    """Compares every WAV to the byte. Checks that exactly the objects exist that the events name."""
    store = ObjectStore(evidence.settings.s3)
    named: set[str] = {".ready"}
    for event in events_of(evidence.tape, Topic.RECORDING_READY, RecordingReady):
        named |= {event.audio.key, event.peaks.key, event.manifest.key}
        part = next((part for part in parts.get(event.call_id, ()) if part.number == event.part), None)
        if part is None:
            continue  # told by _results
        named.add(_stage_record(event, "transcribe"))
        wav = wav_of(part)
        measured.checked["recordings"] += 1
        measured.checked["WAV bytes"] += len(wav)
        if event.audio.sha256 != sha256_hex(wav) or event.duration_ms != (len(wav) - 44) // 32:
            yield Finding(Wrong.AUDIO, event.call_id, f"part {event.part} is not what was sent: {event.duration_ms} ms")
        for ref in (event.audio, event.peaks, event.manifest):
            yield from _as_named(store, event, ref)
    for transcribed in events_of(evidence.tape, Topic.TRANSCRIPT_READY, TranscriptReady):
        named |= {transcribed.transcript.key, _job_record(transcribed, transcribed.transcript_id)}
        named |= {_stage_record(transcribed, stage) for stage in ("summarize", "embed")}
        yield from _as_named(store, transcribed, transcribed.transcript)
    for summarized in events_of(evidence.tape, Topic.SUMMARY_READY, SummaryReady):
        named.add(summarized.summary.key)
        yield from _as_named(store, summarized, summarized.summary)
    # An order that the provider could not delete has a marker, until it is deleted.
    markers = set(store.list(RELEASES))
    measured.checked["left at the provider, to be deleted"] = len(evidence.kept)
    yield from kept_orders(evidence.kept, [remote_id_of(key) for key in markers])
    for key in store.list():
        measured.checked["objects"] += 1
        if key not in named | markers:
            yield Finding(Wrong.ORPHAN, key, "an object that no event names")


def _job_record(event: Event, job_id: str) -> str:
    """Key of the record of a job."""
    return job_record_key(event.tenant, event.call_id, job_id)


def _stage_record(event: Event, stage: str) -> str:
    """Key of the record of what the stage has published about the event's part."""
    return stage_record_key(event.tenant, event.call_id, stage, event.part)


def _as_named(store: ObjectStore, event: Event, ref: ObjectRef) -> Iterator[Finding]:
    try:
        store.get_verified(ref)
    except ObjectStoreError as error:
        yield Finding(Wrong.MISSING, event.call_id, str(error))


def _vectors(evidence: Evidence, measured: Measured) -> Iterator[Finding]:
    """Checks that the points are those of the transcripts."""
    store = ObjectStore(evidence.settings.s3)
    expected: dict[str, str] = {}
    for event in events_of(evidence.tape, Topic.TRANSCRIPT_READY, TranscriptReady):
        transcript = Transcript.model_validate_json(store.get(event.transcript.key))
        for index, _ in enumerate(chunks_of(transcript)):
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
    client = connect(settings.qdrant)
    for collection in client.get_collections().collections:
        offset = None
        while True:
            points, offset = client.scroll(collection.name, limit=200, offset=offset, with_payload=False)
            yield from (str(point.id) for point in points)
            if offset is None:
                break
    client.close()


def _bill(evidence: Evidence, measured: Measured) -> Iterator[Finding]:
    """Checks that the ledger contains the distinct lines of the log, and that the bill is their sum."""
    lines = {event.key: event for event in events_of(evidence.tape, Topic.USAGE_RECORDED, UsageRecorded)}
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
        (event.call_id, event.part): event for event in events_of(evidence.tape, Topic.RECORDING_READY, RecordingReady)
    }
    for line in lines.values():
        recording = by_recording.get((line.call_id, line.part))
        if recording is not None and line.units != recording.duration_ms * 50 // 60_000:
            yield Finding(Wrong.CHARGE, line.call_id, f"{line.units} units for {recording.duration_ms} ms")
    total = [(len(lines), sum(line.units for line in lines.values()), sum(line.price for line in lines.values()))]
    told = [(count, units, Decimal(price)) for count, units, price in evidence.bill()]
    if told != (total if lines else []):
        yield Finding(Wrong.CHARGE, "the whole bill", f"{told}, not {total}")


def _rest(evidence: Evidence, parts: Mapping[str, Sequence[Part]], measured: Measured) -> Iterator[Finding]:
    """Checks that nothing is unfinished or left behind, also in the API."""
    for group, lag in evidence.lag.items():
        yield Finding(Wrong.IN_FLIGHT, group, f"{lag} records not consumed")
    for left in evidence.spool.iterdir():
        yield Finding(Wrong.ORPHAN, left.name, "left in the recorder's spool")
    for letter in evidence.tape.of(Topic.DEAD_LETTERS).values():
        yield Finding(Wrong.DEAD_LETTER, letter.call_id, str(letter))
    heard = {event.call_id for event in evidence.tape.of(Topic.CALL_EVENTS).values()}
    for call_id, found in parts.items():
        measured.checked["calls"] += 1
        for part in found:
            if not part.closed:
                yield Finding(Wrong.IN_FLIGHT, call_id, f"part {part.number} was never closed")
        status = evidence.status(call_id)
        if status != "complete" and (found or call_id in heard):
            yield Finding(Wrong.IN_FLIGHT, call_id, f"is {status} in the API; parts on the log: {len(found)}")
