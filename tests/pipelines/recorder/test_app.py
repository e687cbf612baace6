"""The recorder as a process, with a real log and store: it is killed, loses its disk, and is late.

One log and one store serve this file. The recorder's consumer group has one member, which returns only under its own
name.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from schemas.artifacts import Manifest, Peaks
from schemas.events import Gap, RecordingReady
from schemas.ids import uuid_of
from schemas.media import EosReason, MediaRecord, RecordType
from tests.conftest import MAKERS
from tests.support.kafka_backend import BOTH
from tests.support.media_records import Call, audio, call, stereo, wav_channels
from tests.support.recorder_process import Bench
from tests.support.running_server import RunningServer
from tests.support.waiting import wait_for


@pytest.fixture(scope="module", params=BOTH)
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    if request.param == "kafka":
        yield request.getfixturevalue("kafka_node")
        return
    embedded = RunningServer(tmp_path_factory.mktemp("log"), MAKERS["log"])
    try:
        yield embedded.start()
    finally:
        embedded.kill()


@pytest.fixture(scope="module")
def bench(log: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    objects = RunningServer(tmp_path_factory.mktemp("objects"), MAKERS["objects"]).start()
    try:
        made = Bench(log, objects, tmp_path_factory.mktemp("data"))
        made.start()
        yield made
        assert made.stop() == 0
    finally:
        objects.kill()  # quicker, and nobody needs its data any more


def expect(bench: Bench, event: RecordingReady, source: Call) -> None:
    """Compares the recording with the call's audio, sample for sample, and its manifest and event with the call."""
    samples = stereo(list(source.tracks.values()))
    assert np.array_equal(wav_channels(bench.wav(event)), samples)
    assert event.duration_ms == len(samples) // 8
    assert [(track.name, track.audio_ms, track.gaps) for track in event.tracks] == [
        (name, event.duration_ms, []) for name in source.tracks
    ]


def journalled(bench: Bench, call_id: str) -> Path:
    """Waits until a journal of the call is on disk."""
    directory = bench.spool / f"{uuid_of('acme', call_id)}.1"
    return wait_for(lambda: directory if (directory / "journal").exists() else None, f"a journal of {call_id}")


def released(bench: Bench, call_id: str) -> None:
    """Waits until the call's first part has left the spool, which happens only when `recorded` is on the log."""
    directory = bench.spool / f"{uuid_of('acme', call_id)}.1"
    wait_for(lambda: None if directory.exists() else True, f"the spool of {call_id} is released")
    assert len(bench.media(call_id, RecordType.RECORDED)) == 1


def interleaved(*calls: list[MediaRecord]) -> list[MediaRecord]:
    return [record for records in zip(*calls, strict=True) for record in records]


def test_two_interleaved_calls(bench: Bench) -> None:
    """Alternates the records of two calls in one partition.

    Each must become a recording with manifest and waveform, the event must be correct, and the spool must be empty.
    """
    first, second = call("inter-1", 3000, seed=1), call("inter-2", 3000, seed=3)
    bench.send(interleaved(first.records(), second.records()))
    for source in (first, second):
        (event,) = bench.recorded(source.call_id)
        expect(bench, event, source)
        manifest = Manifest.model_validate_json(bench.store.get_verified(event.manifest))
        assert manifest.audio_sha256 == event.audio.sha256
        assert (manifest.streams, manifest.close_reason) == (["MZ1"], "ended")
        assert manifest.first_offset < manifest.close_offset
        peaks = Peaks.model_validate_json(bench.store.get_verified(event.peaks))
        assert [len(channel) for channel in peaks.channels] == [150, 150]
        assert event.audio.key == f"acme/{source.call_id}/recording/1/audio.wav"
        released(bench, source.call_id)


def test_dropped_socket_holes_and_rubbish(bench: Bench) -> None:
    """Drops the socket, loses 400 ms, shuffles and repeats runs, and adds invalid records.

    The gap must be silence and be reported once. The invalid records must stop nothing: they would block the partition.
    """
    source = call("dropped", 3000, seed=7)
    runs = source.media(run_ms=200, holes=[(1000, 1400)])
    runs = [*runs[::2], *runs[1::2], *runs[3:9]]
    bench.producer.produce("call.media", key="dropped", value=b"?", headers=[("type", b"media")], partition=0)
    bench.producer.produce("call.media", value=b"?", partition=0)
    bench.producer.produce("call.media", key=b"\xff\xfe", value=None, partition=0)
    bench.send([source.start(), *runs, source.run("sideways", 0, b"?"), source.eos(EosReason.SOCKET_CLOSED)])
    (event,) = bench.recorded("dropped")
    expected = stereo(list(source.tracks.values())).copy()
    expected[8000:11200] = 0
    assert np.array_equal(wav_channels(bench.wav(event)), expected)
    assert [track.gaps for track in event.tracks] == [[Gap(start_ms=1000, end_ms=1400, reason="missing")]] * 2


def test_a_late_stream_is_part_two(bench: Bench) -> None:
    """Starts another stream after the recording is ready. It must become a second recording."""
    first = call("late", 1000, seed=1)
    bench.send(first.records())
    (event,) = bench.recorded("late")
    second = call("late", 1500, seed=5).stream("MZ2", after_ms=60_000)
    bench.send(second.records())
    one, two = bench.recorded("late", parts=2)
    assert one == event
    expect(bench, one, first)
    expect(bench, two, second)


@pytest.mark.parametrize("killed_after", ["audio", "end", "close"])
def test_killed_in_the_middle(bench: Bench, killed_after: str) -> None:
    """Kills the recorder during a call, at the end of its stream, and during close and upload.

    The recording must be the same to the byte, and its events must be equal.
    """
    source = call(f"killed-{killed_after}", 2000, seed=11)
    records = source.records(run_ms=200)
    bench.send(records[:11])
    journalled(bench, source.call_id)
    if killed_after == "audio":
        bench.kill()
        bench.send(records[11:])
    else:
        bench.send(records[11:])
        if killed_after == "close":
            wait_for(lambda: bench.media(source.call_id, RecordType.CLOSE) or None, "the close record")
        bench.kill()
    bench.start()
    (event,) = bench.recorded(source.call_id)
    expect(bench, event, source)


def test_a_lost_disk_is_rebuilt_from_the_log(bench: Bench) -> None:
    """Deletes the recorder's directory (spool and state) while it is stopped in the middle of a call.

    Quix must restore the state from the changelog, and the journal is read from the log again: the same bytes.
    """
    source = call("lost-disk", 2000, seed=13)
    records = source.records(run_ms=200)
    bench.send(records[:11])
    journalled(bench, source.call_id)
    assert bench.stop() == 0
    shutil.rmtree(bench.data_dir / "recorder")
    bench.start()
    bench.send(records[11:])
    (event,) = bench.recorded("lost-disk")
    expect(bench, event, source)
    assert "are incomplete on this disk; reading" in bench.output.read_text()


def test_only_the_spool_is_lost_between_close_and_upload(bench: Bench) -> None:
    """Closes a call while the store is unavailable, then deletes the spool.

    The next record of the call must bring the lost part back. Meanwhile the recordings wait, and the log says so.
    """
    source = call("away", 1000, seed=15)
    bench.objects.kill()
    try:
        bench.send(source.records())
        wait_for(lambda: bench.media("away", RecordType.CLOSE) or None, "the close record")
        journalled(bench, "away")
        wait_for(lambda: True if "retrying in" in bench.output.read_text() else None, "a complaint", 30)
        bench.kill()
        shutil.rmtree(bench.spool)
    finally:
        bench.objects.start()
    bench.start()
    second = call("away", 600, seed=17).stream("MZ2", after_ms=9000)
    bench.send(second.records())
    one, two = bench.recorded("away", parts=2)
    expect(bench, one, source)
    expect(bench, two, second)


def test_a_call_on_hold_stays_open_while_its_gateway_lives(bench: Bench) -> None:
    """Reports for three times the idle time only that the stream is open, then continues and ends.

    There must be one recording, closed because the call ended. Closed earlier, the rest would become a second part.
    """
    bench.stop()
    bench.idle_timeout_ms = 1000
    bench.start()
    source = Call("hold", {"inbound": audio(1, 500), "outbound": audio(2, 500)})
    media = source.media()
    bench.send([source.start(), media[0]])
    journalled(bench, "hold")
    for _ in range(12):
        time.sleep(0.25)
        bench.send([source.record(RecordType.ALIVE)])
    bench.send([*media[1:], source.eos()])
    (event,) = bench.recorded("hold")
    expect(bench, event, source)
    assert event.close_reason == "ended"


def test_an_idle_call_is_closed_by_the_clock(bench: Bench) -> None:
    """Sends no end, as if the gateway crashed.

    The decision and its reason must be on the log, and the recording end with the audio.
    """
    bench.stop()
    bench.idle_timeout_ms = 1000
    bench.start()
    source = Call("idle", {"inbound": audio(1, 500), "outbound": audio(2, 500)})
    bench.send([source.start(), *source.media()])
    (event,) = bench.recorded("idle")
    expect(bench, event, source)
    assert event.close_reason == "idle"
    assert [record.detail for record in bench.media("idle", RecordType.CLOSE)] == ["idle"]
    assert event.ended_at_ms == source.at_ms
