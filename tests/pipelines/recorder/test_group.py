"""More than one recorder, on Apache Kafka: the embedded log never replaces a member that is gone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audiotext.embedded import kafka as embedded_kafka
from schemas.events import RecordingReady
from schemas.media import RecordType
from tests.conftest import MAKERS
from tests.pipelines.recorder.calls import Call, call, stereo, wav_channels
from tests.pipelines.recorder.running import Bench, eventually
from tests.running import RunningServer

pytestmark = pytest.mark.skipif(embedded_kafka.available() is not None, reason=str(embedded_kafka.available()))

PARTITIONS = (0, 1)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    log = RunningServer(tmp_path_factory.mktemp("kafka"), embedded_kafka.servers).start()
    objects = RunningServer(tmp_path_factory.mktemp("objects"), MAKERS["objects"]).start()
    yield log, objects
    objects.stop()
    log.stop()


@pytest.fixture
def recorders(servers: tuple[RunningServer, RunningServer], tmp_path: Path) -> Iterator[list[Bench]]:
    """Two recorders with a disk each; a test starts them."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(Bench(*servers, tmp_path / name, idle_timeout_ms=60_000, instance_id=None))
    yield made
    for recorder in made:
        if recorder.running is not None and recorder.running.poll() is None:
            recorder.kill()


def sent(bench: Bench, calls: dict[int, Call], first: int, last: int | None = None) -> None:
    """Puts that slice of each call's records on the partition that is its key."""
    for partition, source in calls.items():
        bench.send(source.records(run_ms=200)[first:last], partition)


def opened(recorder: Bench, source: Call) -> bool:
    return recorder.output.exists() and f"call {source.call_id} part 1 opened" in recorder.output.read_text()


def expect(bench: Bench, event: RecordingReady, source: Call) -> None:
    samples = stereo(list(source.tracks.values()))
    assert np.array_equal(wav_channels(bench.wav(event)), samples)
    assert [track.gaps for track in event.tracks] == [[], []]


def started_together(one: Bench, two: Bench) -> None:
    """Starts both and waits until each has a partition, by calls that are recorded at once."""
    one.start()
    two.start()

    def divided() -> bool | None:
        probes = {partition: call(f"probe-{one.data_dir.parent.name}-{attempts}-{partition}", 100)
                  for partition in PARTITIONS}
        sent(one, probes, 0)
        for probe in probes.values():
            one.recorded(probe.call_id)
        return True if all(any(opened(r, p) for p in probes.values()) for r in (one, two)) else None

    for attempts in range(20):
        if divided():
            return
    raise AssertionError("the partitions are not divided")


def test_a_zombie_changes_nothing(recorders: list[Bench]) -> None:
    """A recorder is stopped (SIGSTOP) with calls in its hands until the other has taken them over; then it wakes up,
    goes on where it was, and tells the changelog what it knows. After that the second one loses its disk.

    The calls are the same to the byte. If the zombie's states counted, the audio between would be missing."""
    one, two = recorders
    calls = {partition: call(f"zombie-{partition}", 4000, seed=partition) for partition in PARTITIONS}
    one.start()
    sent(one, calls, 0, 11)
    import time
    eventually(lambda: True if len(list(one.spool.glob("*/journal"))) == 2 else None, "the first recorder has them")
    time.sleep(1)
    sent(one, calls, 11, 15)
    time.sleep(0.2)
    one.pause()
    two.start()
    eventually(lambda: True if "took up" in two.output.read_text() else None, "the second takes over", 40)
    sent(one, calls, 15, 31)
    time.sleep(1); eventually(lambda: True if two.spool.exists() and len(list(two.spool.glob("*/journal"))) == 2 else None, "journals")
    import time; time.sleep(2)
    one.resume()
    time.sleep(3)
    print(one.output.read_text())
    from redpanda.scan import Stretch, scan; import threading
    for p in PARTITIONS:
        for m in scan(one.kafka, Stretch("changelog__recorder--call.media--default", p), threading.Event()):
            print(p, m.offset(), m.key(), m.value(), m.headers())
    one.kill()
    two.kill()
    shutil.rmtree(two.data_dir / "recorder")
    two.start()
    sent(one, calls, 31)
    for source in calls.values():
        (event,) = two.recorded(source.call_id, timeout_s=60)
        expect(two, event, source)
