"""A recorder with a lost or full disk: as a process, with a real log and store."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from confluent_kafka import Producer

from pipelines.recorder.state_codec import CHANGELOG, read_changelog
from pipelines.recorder.state_machine import CallState
from schemas.events import RecordingReady
from schemas.media import RecordType
from tests.conftest import MAKERS
from tests.support.kafka_backend import plain_producer_config
from tests.support.media_records import Call, call, stereo, wav_channels
from tests.support.recorder_process import Bench
from tests.support.running_server import RunningServer
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    log = RunningServer(tmp_path_factory.mktemp("log"), MAKERS["log"]).start()
    objects = RunningServer(tmp_path_factory.mktemp("objects"), MAKERS["objects"]).start()
    try:
        yield log, objects
    finally:
        objects.kill()  # quicker, and nobody needs its data any more
        log.kill()


@pytest.fixture
def bench(servers: tuple[RunningServer, RunningServer], tmp_path: Path) -> Iterator[Bench]:
    """Returns a recorder for the test to start, in the same group in every test."""
    made = Bench(*servers, tmp_path, idle_timeout_ms=2000)
    yield made
    if made.running is not None and made.running.poll() is None:
        assert made.stop() == 0


def expect(bench: Bench, event: RecordingReady, source: Call) -> None:
    """Compares the recording with the call's audio, sample for sample, without a gap."""
    assert np.array_equal(wav_channels(bench.wav(event)), stereo(list(source.tracks.values())))
    assert [track.gaps for track in event.tracks] == [[], []]


def committed(bench: Bench, partition: int = 0) -> None:
    wait_for(lambda: bench.lag(partition) == 0 or None, f"partition {partition} is committed")


def test_calls_without_further_records_are_recorded(bench: Bench) -> None:
    """Kills a recorder with an open call, an ended one and one not uploaded, and deletes its disk.

    No record of these calls follows. They must be found in the state, read from the log in one pass, closed and
    recorded: the same bytes. A recorder that waits for the next record would keep them open without end.
    """
    open_, ended, closed = (call(f"silent-{name}", 1000, seed=20) for name in ("open", "ended", "closed"))
    bench.idle_timeout_ms = 60_000
    bench.start()
    bench.objects.kill()
    try:
        bench.send(closed.records())
        wait_for(lambda: bench.media(closed.call_id, RecordType.CLOSE) or None, "the close record")
        bench.send([open_.start(), *open_.media()])
        committed(bench)
        bench.pause()
        bench.send([*ended.records(), call("marker", 20).start()])
        bench.kill()
    finally:
        bench.objects.start()
    bench.idle_timeout_ms = 2000
    bench.start()
    wait_for(lambda: "silent-ended part 1 opened" in bench.output.read_text() or None, "the rest is read")
    bench.kill()
    shutil.rmtree(bench.data_dir / "recorder")
    bench.start()
    for source, reason in ((open_, "idle"), (ended, "ended"), (closed, "ended")):
        (event,) = bench.recorded(source.call_id)
        expect(bench, event, source)
        assert event.close_reason == reason
    assert bench.output.read_text().count("are incomplete on this disk; reading") == 1
    wait_for(lambda: not list(bench.spool.glob("*/journal")) or None, "nothing is left in the spool")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mounts a file system of 20 MB for the recorder. Request it before `bench`, which must end first."""
    path = tmp_path / "recorder"
    path.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(path)], check=False, capture_output=True
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("filled", ["by the calls", "by others"])
def test_a_full_disk(small_disk: Path, bench: Bench, filled: str) -> None:
    """Fills the disk in the middle of a call.

    The recorder must end with a message that names the fix and commit only records on disk. With free space it must
    continue, and nothing may be missing.
    """
    source = call(f"full {filled}", 1_500_000 if filled == "by the calls" else 4000, seed=40)
    records = source.records()
    bench.start()
    bench.send(records[:9])
    committed(bench)
    ballast = small_disk / "ballast"
    if filled == "by others":
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        ballast.write_bytes(bytes(room))
    bench.send(records[9:-1])
    for times in (1, 2):
        assert bench.running is not None
        assert bench.running.wait(60) == 1
        assert bench.output.read_text().count("Free space there") == times
        assert "Free space there" in bench.output.read_text().splitlines()[-1]
        assert bench.lag(0) > 0
        if times == 1:
            bench.start()
    ballast.unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=128m", str(small_disk)], check=True)
    bench.start()
    bench.send(records[-1:])
    (event,) = bench.recorded(source.call_id)
    expect(bench, event, source)


def test_finished_calls_are_forgotten_once_the_log_has_forgotten_them(bench: Bench) -> None:
    """Records a call, lets the recorder believe that the log has lost its records, as retention does (the embedded log
    cannot be told to), and looks at the changelog topic: the call's state ends with a tombstone, so that neither
    RocksDB nor the topic grow with every call there ever was. Another call, whose audio the log still has, is known as
    before: a late stream of it is part 2."""
    gone, kept = call("forgotten", 200, seed=50), call("remembered", 200, seed=51)
    bench.start()
    bench.send(gone.records())
    bench.recorded(gone.call_id)
    committed(bench)
    edge = bench.end(0)
    bench.send(kept.records())
    bench.recorded(kept.call_id)
    committed(bench)

    def states() -> dict[tuple[str, str], CallState]:
        return read_changelog(bench.kafka, CHANGELOG, 0, {("acme", gone.call_id), ("acme", kept.call_id)}, Event())

    assert set(states()) == {("acme", gone.call_id), ("acme", kept.call_id)}
    assert bench.stop() == 0
    bench.forget_before = edge
    bench.start()
    wait_for(lambda: ("acme", gone.call_id) not in states() or None, "the call is forgotten")
    assert set(states()) == {("acme", kept.call_id)}
    late = kept.stream("MZ-late", after_ms=5_000)
    bench.send(late.records())
    assert [event.part for event in bench.recorded(kept.call_id, parts=2)] == [1, 2]


@pytest.mark.server
def test_a_log_that_has_lost_its_end_is_gone_on_with(tmp_path: Path) -> None:
    """The log comes back as it was some calls ago, as the embedded one does when it is killed under traffic. What the
    recorder knows lies beyond its end then. Calls that come afterwards are recorded: the recorder ended at every start
    until somebody deleted its state."""
    for name in ("log", "objects"):
        (tmp_path / name).mkdir()
    log = RunningServer(tmp_path / "log", MAKERS["log"]).start()
    objects = RunningServer(tmp_path / "objects", MAKERS["objects"]).start()
    bench = Bench(log, objects, tmp_path, idle_timeout_ms=2000)

    def recorded(name: str, count: int) -> None:
        """So many calls, one after the other, by a recorder of their own."""
        bench.producer = Producer(plain_producer_config(bench.kafka))
        bench.start()
        for number in range(count):
            source = call(f"{name}-{number}", 1000, seed=number)
            bench.send(source.records())
            expect(bench, bench.recorded(source.call_id)[0], source)

    try:
        recorded("kept", 1)
        committed(bench)
        bench.kill()
        log.stop()
        shutil.copytree(tmp_path / "log", tmp_path / "older")
        log.start()
        recorded("lost", 3)
        committed(bench)
        bench.kill()
        log.kill()
        shutil.rmtree(tmp_path / "log")
        shutil.copytree(tmp_path / "older", tmp_path / "log")
        log.start()
        bench.supervised = True
        recorded("after", 3)
        assert b"the log has lost records that it had acknowledged" in bench.output.read_bytes()
    finally:
        bench.kill()
        objects.kill()
        log.kill()
