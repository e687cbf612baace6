"""Recordings are made from closed journals, with a store that fails at every step in turn.

The store and the log are stand-ins here, because the tests fail them at exact steps; the real ones are in test_app.py.
"""

import queue
import threading
from pathlib import Path

import pytest

from pipelines.recorder import finalizer
from pipelines.recorder.finalizer import RecordingFinalizer
from pipelines.recorder.journal import PartId
from pipelines.recorder.recording import NotClosedError, make_recording
from pipelines.recorder.spool import Spool
from schemas.events import ObjectRef, StageFailed, TrackOutline
from schemas.ids import sha256_hex
from schemas.media import CloseReason, MediaRecord, RecordType
from sinks.object_store import ObjectRefusedError
from tests.support.failing_stores import Events, Faults, Store
from tests.support.media_records import EPOCH_MS, Call, audio, call
from tests.support.waiting import wait_for

PART = PartId("acme", "CA", 1, 3)


def closed_part(root: Path, source: Call) -> tuple[Spool, Path]:
    spool = Spool(root)
    close = source.record(RecordType.CLOSE, stream_id="", at_ms=EPOCH_MS + 9000, detail=CloseReason.ENDED, part=1)
    for offset, record in enumerate([*source.records(), close], 100):
        spool.append(PART, record, offset)
    return spool, spool.write(PART)


def test_the_event_and_manifest_of_a_recording(tmp_path: Path) -> None:
    """Makes a recording twice. Manifest and event must have the call's times, offsets and files, and be equal."""
    _, directory = closed_part(tmp_path, call("CA", 1000))
    recording = make_recording(PART, directory)
    manifest = recording.manifest
    assert (manifest.started_at_ms, manifest.ended_at_ms) == (EPOCH_MS, EPOCH_MS)
    assert (manifest.partition, manifest.first_offset, manifest.close_offset) == (3, 100, 106)
    assert manifest.audio_sha256 == sha256_hex(recording.audio.read_bytes())
    reference = ObjectRef(key="k", sha256=manifest.audio_sha256, size=1)
    event = recording.event(audio=reference, peaks=reference, manifest=reference)
    assert (event.occurred_at_ms, event.duration_ms, event.close_reason) == (EPOCH_MS + 9000, 1000, "ended")
    again = make_recording(PART, directory)
    assert again == recording
    assert again.event(audio=reference, peaks=reference, manifest=reference) == event


@pytest.mark.slow
def test_a_recording_with_ever_so_many_gaps_is_told(tmp_path: Path) -> None:
    """Loses every second frame of one track 20,000 times.

    The event must have the longest gaps in order, their number and the exact missing time; the manifest has all gaps.
    An event with all gaps would be too large for the log, and the recording never announced.
    """
    source = call("CA", 0)
    frame, times = audio(1, 20), [*range(0, 800_000, 40), 801_000]
    runs = [source.run("inbound", ts_ms, frame) for ts_ms in times]
    close = source.record(RecordType.CLOSE, stream_id="", at_ms=EPOCH_MS, detail=CloseReason.ENDED, part=1)
    spool = Spool(tmp_path)
    for offset, record in enumerate([source.start(), *runs, close]):
        spool.append(PART, record, offset)
    recording = make_recording(PART, spool.write(PART))
    every = recording.manifest.tracks[0].gaps
    assert len(every) == len(times) - 1
    reference = ObjectRef(key="k", sha256=recording.manifest.audio_sha256, size=1)
    event = recording.event(audio=reference, peaks=reference, manifest=reference)
    assert len(event.model_dump_json()) < 100_000
    told = event.tracks[0]
    assert (len(told.gaps), told.gaps_left_out) == (1000, len(every) - 1000)
    assert told.gaps == [*every[:999], every[-1]]
    assert (every[-1].end_ms - every[-1].start_ms, told.missing_ms) == (1020, 19_999 * 20 + 1020)


def test_an_event_of_before_says_what_is_missing() -> None:
    """Reads a track of an event that was told before there was `missing_ms`: its gaps say it."""
    track = {"name": "inbound", "audio_ms": 1, "gaps": [{"start_ms": 0, "end_ms": 400, "reason": "missing"}]}
    assert TrackOutline.model_validate(track).missing_ms == 400


def test_a_stream_that_never_ended_ends_where_it_was_last_heard_of(tmp_path: Path) -> None:
    """Kills the gateway just after a call was resumed from hold.

    The recording's end must not lie before the start of the second stream, or the API would report the call as live
    without end.
    """
    first = call("CA", 1000)
    second = first.stream("MZ2", after_ms=5_000)
    close = first.record(RecordType.CLOSE, stream_id="", at_ms=EPOCH_MS + 9000, detail=CloseReason.IDLE, part=1)
    spool = Spool(tmp_path)
    for offset, record in enumerate([*first.records(), second.start(), close]):
        spool.append(PART, record, offset)
    assert make_recording(PART, spool.write(PART)).manifest.ended_at_ms == second.start().at_ms


def test_an_open_part_has_no_recording(tmp_path: Path) -> None:
    """Makes a recording of an open part. It must be an error instead of half a call."""
    spool = Spool(tmp_path)
    spool.append(PART, call("CA", 100).start(), 1)
    with pytest.raises(NotClosedError):
        make_recording(PART, spool.write(PART))


def test_every_step_fails_once_and_the_result_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails each upload and the event once, each after it took effect.

    There must be one recording, equal events, `recorded` once and last, and the spool must stay: only the log may
    release it.
    """
    monkeypatch.setattr(finalizer, "_FIRST_DELAY_S", 0.001)
    faults = Faults()
    store, events = Store(faults), Events(faults)
    told: list[tuple[MediaRecord, int]] = []
    done = threading.Event()

    def tell(record: MediaRecord, partition: int) -> None:
        told.append((record, partition))
        done.set()

    _, directory = closed_part(tmp_path, call("CA", 1000))
    finisher = RecordingFinalizer(store=store, events=events, put_record=tell, workers=2)
    finisher.submit(PART, directory, 106)
    finisher.submit(PART, directory, 106)
    finisher.start()
    assert done.wait(10)
    finisher.stop()
    assert faults.failed == 4
    prefix = "acme/CA/recording/1"
    assert set(store.objects) == {f"{prefix}/{name}" for name in ("audio.wav", "peaks.json", "manifest.json")}
    assert len({event.event_id for event in events.sent}) == 1
    assert all(event == events.sent[0] for event in events.sent)
    assert [(record.type, record.part, partition) for record, partition in told] == [(RecordType.RECORDED, 1, 3)]
    assert (directory / "journal").exists()


def test_a_failing_part_does_not_delay_others(tmp_path: Path) -> None:
    """Submits a part without a close record, with one thread.

    The other part must be recorded. The outputs of the failed attempt must be deleted, its journal must stay.
    """
    bad = PartId("acme", "CB", 1, 3)
    spool, directory = closed_part(tmp_path, call("CA", 1000))
    spool.append(bad, call("CB", 100).start(), 1)
    failing = spool.write(bad)
    (failing / "audio.wav").write_bytes(b"half a recording")
    faults, told = Faults(), queue.SimpleQueue[MediaRecord]()
    faults.failed, faults._fail_at = 4, 1000
    finisher = RecordingFinalizer(
        store=Store(faults), events=Events(faults), put_record=lambda record, _: told.put(record), workers=1
    )
    finisher.submit(bad, failing, 106)
    finisher.submit(PART, directory, 106)
    finisher.start()
    assert told.get(timeout=10).call_id == "CA"
    assert finisher.is_busy(bad)
    assert [path.name for path in failing.iterdir()] == ["journal"]
    finisher.stop()


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ObjectRefusedError("key: the store refuses the object: KeyTooLongError"), 1),
        (ZeroDivisionError("a defect"), finalizer._MAX_DEFECTS),
    ],
)
def test_recording_that_cannot_be_stored_becomes_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, attempts: int
) -> None:
    """Submits a part that the store refuses, or whose recording fails with a defect, and another part, with one thread.

    There must be one dead letter with the reason, the other part must be recorded, and no further attempt may follow.
    The journal must stay. When the cause is removed and the part is submitted again, it must be recorded. Otherwise a
    call is live for ever, and its attempts delay all others.
    """
    monkeypatch.setattr(finalizer, "_FIRST_DELAY_S", 0.001)
    _, directory = closed_part(tmp_path, call("CA", 1000))
    faults, told = Faults(), queue.SimpleQueue[MediaRecord]()
    faults.failed, faults._fail_at = 4, 1000
    store, events = Store(faults), Events(faults)
    store_file, tried = store.put_file, []

    def refuse(key: str, path: Path, content_type: str, sha256: str) -> ObjectRef:
        tried.append(key)
        raise error

    monkeypatch.setattr(store, "put_file", refuse)
    finisher = RecordingFinalizer(store=store, events=events, put_record=lambda record, _: told.put(record), workers=1)
    finisher.submit(PART, directory, 106)
    finisher.start()
    wait_for(lambda: not finisher.is_busy(PART) or None, "the part is given up")
    (letter,) = events.sent
    assert isinstance(letter, StageFailed)
    assert (letter.stage, letter.error_class, letter.attempts) == ("recorder", "permanent", attempts)
    assert str(error) in letter.error
    assert (letter.tenant, letter.call_id, letter.part) == (PART.tenant, PART.call_id, PART.part)
    assert (letter.origin_topic, letter.origin_partition, letter.origin_offset) == ("call.media", 3, 106)
    assert len(tried) == attempts
    assert [path.name for path in directory.iterdir()] == ["journal"]
    assert finisher.unfinished == 0

    finisher.submit(PART, directory, 106)  # as at the next start
    wait_for(lambda: not finisher.is_busy(PART) or None, "the part is given up again")
    assert {event.event_id for event in events.sent} == {letter.event_id}

    monkeypatch.setattr(store, "put_file", store_file)
    finisher.submit(PART, directory, 200)
    assert told.get(timeout=10).type is RecordType.RECORDED
    finisher.stop()


def test_parts_of_a_revoked_partition_are_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revokes the partition of a part that waits for its next attempt.

    No further attempt may follow. After the partition returns, the part must be finished once.
    """
    monkeypatch.setattr(finalizer, "_FIRST_DELAY_S", 0.05)
    _, directory = closed_part(tmp_path, call("CA", 1000))
    faults, told = Faults(), queue.SimpleQueue[MediaRecord]()
    finisher = RecordingFinalizer(
        store=Store(faults), events=Events(faults), put_record=lambda record, _: told.put(record), workers=1
    )
    finisher.submit(PART, directory, 106)
    finisher.start()
    wait_for(lambda: faults.failed or None, "an attempt has failed")
    finisher.on_revoked(PART.partition)
    wait_for(lambda: not finisher.is_busy(PART) or None, "the part is let go")
    assert told.empty()
    finisher.submit(PART, directory, 106)
    assert told.get(timeout=10).type is RecordType.RECORDED
    finisher.stop()
    assert told.empty()


def test_a_part_is_never_made_twice_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revokes and assigns the partition during an upload, and submits the part again.

    Two threads that write one WAV file would upload a corrupt one.
    """
    _, directory = closed_part(tmp_path, call("CA", 1000))
    faults, told = Faults(), queue.SimpleQueue[MediaRecord]()
    faults.failed, faults._fail_at = 4, 1000
    store, in_progress, goes_on = Store(faults), queue.SimpleQueue[str](), threading.Event()
    put = store.put

    def slow(key: str, data: bytes, content_type: str) -> ObjectRef:
        in_progress.put(key)
        assert goes_on.wait(10)
        return put(key, data, content_type)

    monkeypatch.setattr(store, "put", slow)
    finisher = RecordingFinalizer(
        store=store, events=Events(faults), put_record=lambda record, _: told.put(record), workers=2
    )
    finisher.submit(PART, directory, 106)
    finisher.start()
    assert in_progress.get(timeout=10).endswith("audio.wav")
    finisher.on_revoked(PART.partition)
    finisher.submit(PART, directory, 106)
    with pytest.raises(queue.Empty):
        in_progress.get(timeout=0.1)
    goes_on.set()
    assert told.get(timeout=10).type is RecordType.RECORDED
    finisher.stop()


def test_a_released_part_is_not_retried(tmp_path: Path) -> None:
    """Releases a part during an attempt, because an earlier process had finished it. It must not be tried again."""
    spool, directory = closed_part(tmp_path, call("CA", 1000))
    spool.release(PART)
    spool.flush()
    faults = Faults()
    finisher = RecordingFinalizer(store=Store(faults), events=Events(faults), put_record=lambda *_: None, workers=1)
    finisher.submit(PART, directory, 106)
    finisher.start()
    wait_for(lambda: True if not finisher.is_busy(PART) else None, "the job is given up")
    finisher.stop()
