"""One run: makes calls, stores all facts, replays the calls, and compares the facts."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from pipelines.replay.selection import Selection, choose
from pipelines.replay.service import ReplayService
from redpanda.client import EventProducer, consumer_config
from schemas.events import ReplayOverrides, ReplayStage
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_projection import ReplayDoc
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from tests.replay import calls, facts
from tests.replay.stack import Workers, running

_AS_SET = ReplayOverrides()
_STOPS_WITHIN_S = 3.0  # what is under way is finished
_KILLED = ("replayer", "analytics", "usage", "summarizer", "embedder", "replayer", "transcriber", "recorder")


@dataclass(frozen=True)
class Result:
    """Result of a replay: its stage, the differences afterwards (none expected), and its progress."""

    stage: str
    replay: ReplayDoc
    differences: list[str]
    kills: int
    seconds: float


def run(
    folder: Path,
    *,
    numbers: Sequence[int],
    stages: list[ReplayStage],
    on_kafka: bool,
    kill_every_s: float,
    most_kills: int = 1_000,
    another_model: bool = False,
    say: Callable[[str], None],
) -> list[Result]:
    """Makes calls, and replays all of them from each stage with kills.

    kill_every_s: 0 kills nothing. most_kills: limit for each replay. another_model: transcribes everything by another
    model afterwards.
    """
    with running(folder, on_kafka=on_kafka) as workers:
        settings = workers.settings
        began = time.monotonic()
        calls.produce(settings.kafka, [calls.records(one) for one in numbers])
        back = [one for one in numbers if calls.comes_back(one)]
        _until(lambda: facts.count(settings, "recording.ready") == len(numbers), "all calls are recorded", workers)
        calls.produce(settings.kafka, [calls.records(one, "MZ2", 60_000) for one in back])
        parts = len(numbers) + len(back)
        _until(lambda: facts.count(settings, "recording.ready") == parts, "late streams are recorded", workers)
        store = CallStore(settings.clickhouse)
        for kind in ("transcript.ready", "summary.ready", "embedding.ready"):
            _until(lambda kind=kind: facts.count(settings, kind) == parts, f"{kind} of all", workers)  # type: ignore[misc]
        _until(lambda: _settled(workers), "nothing is under way", workers)
        before = facts.gather(settings)
        say(f"{len(numbers)} calls, {parts} recordings, made in {time.monotonic() - began:.0f} s; {before.wavs} WAVs")
        results = []
        for stage in stages:
            results.append(_replayed(workers, store, before, stage, kill_every_s=kill_every_s, most_kills=most_kills))
            say(_told(results[-1]))
        if another_model:
            results += _another_model(workers, store, before)
            say("\n".join(_told(result) for result in results[-2:]))
        return results


def _another_model(workers: Workers, store: CallStore, before: facts.Facts) -> list[Result]:
    """Transcribes everything by another model, then again by the same one, which must change nothing.

    The second replay is stopped and resumed.
    """
    other = ReplayOverrides(model="another")
    first = _replayed(workers, store, before, "recording", overrides=other)
    after = facts.gather(workers.settings)
    wrong = facts.another_model(before, after)
    again = _replayed(workers, store, after, "recording", overrides=other, stop=True)
    return [replace(first, stage="recording, another model", differences=wrong), again]


def _replayed(
    workers: Workers,
    store: CallStore,
    before: facts.Facts,
    stage: ReplayStage,
    *,
    overrides: ReplayOverrides = _AS_SET,
    stop: bool = False,
    kill_every_s: float = 0,
    most_kills: int = 0,
) -> Result:
    settings = workers.settings
    replays = ReplayStore(settings.clickhouse)
    desk = ReplayService(EventProducer(settings.kafka).send, ObjectStore(settings.s3), replays)
    began = time.monotonic()
    replay_id = desk.start(choose(store, Selection(every=True), stage), stage, overrides, tenant=None)
    kills, next_kill = 0, began + kill_every_s

    def look() -> ReplayDoc:
        found = replays.get_replay(replay_id, None)
        assert found is not None
        return found

    def through() -> bool:
        nonlocal kills, next_kill
        if kill_every_s and kills < most_kills and time.monotonic() > next_kill:
            workers.kill(_KILLED[kills % len(_KILLED)])
            kills, next_kill = kills + 1, time.monotonic() + kill_every_s
        return look().state == "done"

    if stop:
        desk.stop(look())
        time.sleep(_STOPS_WITHIN_S)
        done = look().done
        time.sleep(1)
        assert (look().state, look().done) == ("stopped", done), "it goes on after it was stopped"
        desk.resume(look())
    _until(through, f"the replay from {stage} is through", workers, 1_800)
    seconds = time.monotonic() - began
    _until(lambda: _settled(workers), "nothing is under way", workers)
    return Result(stage, look(), before.differences(facts.gather(settings)), kills, seconds)


def _settled(workers: Workers) -> bool:
    """True if every consumer group has read everything."""
    kafka = workers.settings.kafka.model_copy(update={"instance_id": None})
    groups = {
        "recorder": [Topic.CALL_MEDIA],
        "transcribe": [Topic.RECORDING_READY],
        "summarize": [Topic.TRANSCRIPT_READY],
        "embed": [Topic.TRANSCRIPT_READY],
        "usage": [Topic.USAGE_RECORDED],
        "analytics": [Topic.RECORDING_READY, Topic.TRANSCRIPT_READY, Topic.SUMMARY_READY, Topic.EMBEDDING_READY],
    }
    for group, names in groups.items():
        consumer = Consumer(consumer_config(kafka, group))
        try:
            for topic in names:
                numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
                for place in consumer.committed([TopicPartition(topic, n) for n in numbers], timeout=10):
                    _, high = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=10)
                    # Commits of a transaction leave a marker, which nobody reads.
                    if high - max(0, place.offset) > (1 if group == "recorder" else 0):
                        return False
        finally:
            consumer.close()
    return True


def _until(condition: Callable[[], bool], what: str, workers: Workers, timeout_s: float = 600) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        workers.restart_ended()
        time.sleep(0.2 + random.random() / 10)


def _told(result: Result) -> str:
    replay = result.replay
    line = (
        f"from {result.stage}: {replay.done} of {replay.parts} done, {replay.failed} failed, {replay.skipped} skipped "
        f"in {result.seconds:.0f} s with {result.kills} kills; {len(result.differences)} differences"
    )
    return "\n  ".join([line, *result.differences])
