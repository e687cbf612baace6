"""Two recorders on Apache Kafka, which replaces missing members and deletes records; the embedded log does neither."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from audiotext.embedded import kafka as embedded_kafka
from redpanda.client import connection_config
from schemas.events import RecordingReady
from schemas.topics import Topic
from tests.conftest import MAKERS
from tests.support.media_records import Call, call, stereo, wav_channels
from tests.support.recorder_process import Bench
from tests.support.running_server import RunningServer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(
    embedded_kafka.unavailable_reason() is not None, reason=str(embedded_kafka.unavailable_reason())
)

PARTITIONS = (0, 1)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    log = RunningServer(tmp_path_factory.mktemp("kafka"), embedded_kafka.servers).start()
    objects = RunningServer(tmp_path_factory.mktemp("objects"), MAKERS["objects"]).start()
    try:
        yield log, objects
    finally:
        objects.kill()  # quicker, and nobody needs its data any more
        log.kill()


@pytest.fixture
def recorders(servers: tuple[RunningServer, RunningServer], tmp_path: Path) -> Iterator[list[Bench]]:
    """Returns two recorders with a disk each, for a test to start."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(Bench(*servers, tmp_path / name, idle_timeout_ms=60_000, instance_id=None))
    yield made
    for recorder in made:
        if recorder.running is not None and recorder.running.poll() is None:
            recorder.resume()
            recorder.stop()


def a_call_on_each(name: str) -> dict[int, Call]:
    return {partition: call(f"{name}-{partition}", 4000, seed=partition) for partition in PARTITIONS}


def send(bench: Bench, calls: dict[int, Call], first: int, last: int | None = None) -> None:
    """Writes that slice of each call's 42 records to the partition that is its key."""
    for partition, source in calls.items():
        bench.send(source.records(run_ms=200)[first:last], partition)


def has_read(recorder: Bench, marker: str, partition: int) -> None:
    """Waits until the recorder has read the whole partition, with a call that begins there now."""
    recorder.send([call(marker, 20).start()], partition)
    opened = f"call {marker} part 1 opened"
    wait_for(lambda: opened in recorder.output.read_text() or None, f"{marker} is opened", 40)


def has_committed(recorder: Bench, partitions: tuple[int, ...] = PARTITIONS) -> None:
    """Waits until all records of the partitions are on disk and committed."""
    for partition in partitions:
        wait_for(lambda at=partition: recorder.lag(at) == 0 or None, f"partition {partition} is committed", 40)  # type: ignore[misc]  # a default for the loop's variable


def expect(bench: Bench, event: RecordingReady, source: Call) -> None:
    """Compares the recording with the call's audio, sample for sample, without a gap."""
    assert np.array_equal(wav_channels(bench.wav(event)), stereo(list(source.tracks.values())))
    assert [track.gaps for track in event.tracks] == [[], []]


def test_a_killed_recorder_is_replaced_by_the_other(recorders: list[Bench]) -> None:
    """Kills one of two recorders in the middle of its calls.

    The other must take over the calls and read them from the log: the same bytes as without the crash.
    """
    one, two = recorders
    calls = a_call_on_each("killed")
    one.start()
    has_read(one, "killed-first", 0)
    two.start()
    wait_for(lambda: "this recorder owns" in two.output.read_text() or None, "the second has a partition", 40)
    send(one, calls, 0, 20)
    has_committed(one)
    opened = [[p for p in PARTITIONS if f"killed-{p} part 1 opened" in r.output.read_text()] for r in recorders]
    assert sorted(opened) == [[0], [1]]
    one.kill()
    send(one, calls, 20)
    for partition, source in calls.items():
        (event,) = two.recorded(source.call_id, timeout_s=40)
        expect(two, event, source)
        assert (partition in opened[0]) == (f"{source.call_id} part 1 opened" not in two.output.read_text())
    assert "are incomplete on this disk; reading" in two.output.read_text()


def test_a_zombie_changes_nothing(recorders: list[Bench]) -> None:
    """Suspends a recorder that has read more than it has committed, lets the other take over, and resumes the first.

    The first writes its states to the changelog and ends, because its offsets are rejected. Then the second loses its
    disk, so that only the changelog is left. The calls must be the same to the byte. If the first one's states counted,
    records of the second would be lost, without a gap in the recording.
    """
    one, two = recorders
    calls = a_call_on_each("zombie")
    one.commit_interval_s = 5
    one.start()
    send(one, calls, 0, 11)
    has_committed(one)
    send(one, calls, 11, 15)
    for partition in PARTITIONS:
        has_read(one, f"zombie-marker-{partition}", partition)
    one.pause()
    two.start()
    wait_for(lambda: "resumed" in two.output.read_text() or None, "the second has taken over", 40)
    send(two, calls, 15, 31)
    has_committed(two)
    one.resume()
    assert one.running is not None
    assert one.running.wait(20) != 0
    two.kill()
    shutil.rmtree(two.data_dir / "recorder")
    two.start()
    send(two, calls, 31)
    for source in calls.values():
        (event,) = two.recorded(source.call_id, timeout_s=40)
        expect(two, event, source)


def test_what_the_log_has_lost_is_a_gap_and_an_error_not_a_standstill(recorders: list[Bench]) -> None:
    """The recorder is away for so long that the log drops what it has not read yet. It goes on with what there is:
    one line says what is lost, the recording has a gap, the next call is whole.

    Quix would refuse to start, for ever, while the log goes on losing audio behind its back."""
    bench, _ = recorders
    source, after = call("outrun", 3000, seed=30), call("outrun-after", 1000, seed=31)
    records = source.records(run_ms=500)
    bench.start()
    bench.send(records[:5], 1)
    has_committed(bench)
    assert bench.stop() == 0
    first_lost = bench.end(1)
    bench.send(records[5:9], 1)
    place = TopicPartition(Topic.CALL_MEDIA, 1, bench.end(1))
    admin = AdminClient(connection_config(bench.kafka))
    (dropped,) = admin.delete_records([place]).values()
    assert dropped.result(20).low_watermark == first_lost + 4
    bench.send(records[9:], 1)
    bench.send(after.records(), 1)
    bench.start()
    (event,) = bench.recorded(source.call_id)
    expected = stereo(list(source.tracks.values())).copy()
    expected[8000:16000] = 0
    assert np.array_equal(wav_channels(bench.wav(event)), expected)
    assert [[(gap.start_ms, gap.end_ms) for gap in track.gaps] for track in event.tracks] == [[(1000, 2000)]] * 2
    (event,) = bench.recorded(after.call_id)
    expect(bench, event, after)
    lost = f"has lost offsets {first_lost} to {first_lost + 3} before they were recorded"
    assert lost in bench.output.read_text()
