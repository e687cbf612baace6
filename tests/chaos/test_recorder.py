"""Recordings of calls during the death of the broker: each sample is in its place, once."""

import asyncio
import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from gateway.metrics import Metrics
from gateway.producer.log_producer import LogProducer
from tests.support.kafka_backend import KafkaNodes, restarted
from tests.support.media_records import Call, call, stereo, wav_channels
from tests.support.recorder_process import Bench
from tests.support.running_server import RunningServer
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


@pytest.fixture
def bench(
    kafka_node: KafkaNodes, object_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    # A checkpoint waits for a broker for seconds only; then the recorder ends, and its supervisor starts it again.
    made = Bench(kafka_node, object_server, tmp_path_factory.mktemp("data"), supervised=True)
    made.start()
    try:
        wait_for(lambda: "this recorder owns the partitions" in made.output.read_text() or None, "the recorder reads")
        yield made
        assert made.stop() == 0
    finally:
        made.kill()


async def play(writer: LogProducer, calls: list[Call]) -> None:
    """Plays all calls at the same time, 200 ms of each every 100 ms."""
    for records in zip(*(source.records(run_ms=200) for source in calls), strict=True):
        for record in records:
            writer.put(record)
        await asyncio.sleep(0.05)  # a record of one of the two tracks


async def test_the_broker_is_killed_while_calls_come_in(bench: Bench, kafka_node: KafkaNodes) -> None:
    """Kills the broker with SIGKILL twice, while six calls of half a minute arrive at double speed.

    Each recording equals the audio sample for sample, has no gap, and has one event.
    """
    writer = LogProducer(kafka_node.settings, Metrics(), limit_bytes=256 << 20)
    writer.start()
    calls = [call(f"broker-{uuid.uuid4().hex}", 30_000, seed=seed) for seed in range(0, 12, 2)]
    playing = asyncio.create_task(play(writer, calls))
    for _ in range(2):
        await asyncio.sleep(1)
        await restarted(kafka_node)
    await playing
    assert await writer.drain(60)
    writer.close()
    for source in calls:
        (event,) = await asyncio.to_thread(bench.recorded, source.call_id, timeout_s=60)
        samples = stereo(list(source.tracks.values()))
        assert np.array_equal(wav_channels(bench.wav(event)), samples)
        assert [track.gaps for track in event.tracks] == [[], []]
        assert len({told.event_id for told in bench.recordings(source.call_id)}) == 1
