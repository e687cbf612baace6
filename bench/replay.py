"""Effect of replays on live calls, and speed of rebuilt recordings.

A rebuild reads records from the log and compares the WAV with the stored one. Its figure is seconds of call per second
of CPU, with all threads of the process. The other rows play calls into a whole stack, in turns: while no replay runs,
while a replay transcribes other calls again, and while recordings are rebuilt from `media`. They compare the time from
the hang-up to the recording, upload included.

    python -m bench.replay
"""

import asyncio
import random
import secrets
import statistics
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from pydantic import SecretStr

from audiotext.embedded.server import port_is_free
from audiotext.stack.stack import Stack
from bench import recorder
from bench.running import kafka_settings
from core.settings import KafkaSettings, S3Settings, Settings
from gateway.simulator import play
from pipelines.recorder.media_topic import read_calls
from pipelines.replay.rerecord import RecordingRebuilder, by_partition
from pipelines.replay.selection import Selection, choose
from pipelines.replay.service import ReplayService
from redpanda import topics
from redpanda.client import EventProducer, consumer_config, producer_config
from schemas.artifacts import Manifest
from schemas.events import RecordingReady, ReplayOverrides, ReplayStage, parse_event
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_projection import ReplayDoc
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore

ROUNDS, CALLS = 3, 8  # calls of each kind in each round
LONG, LONG_S = 16, 300  # calls that are rebuilt from the log; 77 MB, which fit into the embedded log
SPEED = 20.0
# Settings of the replays, three for each round. Their transcriptions take longer than the calls of the round.
LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "pl", "sv")
SHORT_S = 4
TIMEOUT_S = 180
_UNDER_WAY_S = 3.0  # from the request for a replay until its engine works

Row = tuple[str, str, str]


def rows() -> list[Row]:
    """Runs the benchmark (about three minutes) and returns its rows."""
    with tempfile.TemporaryDirectory() as directory:
        rebuilt = _rebuilding(Path(directory))
    with tempfile.TemporaryDirectory() as directory:
        waits = _beside(Path(directory))
    return [
        (
            "replay: recordings rebuilt from the log",
            f"{rebuilt:,.0f} x real time",
            f"{recorder.CALLS} calls of {recorder.CALL_S} s, all byte-identical, per core",
        ),
        _compared("a replay transcribes again", waits.transcribing, waits.quiet),
        _compared(f"{waits.rebuilt} recordings of {LONG_S // 60} minutes are rebuilt", waits.rebuilding, waits.quiet),
    ]


def _compared(what: str, busy: Sequence[float], quiet: Sequence[float]) -> Row:
    # The mean, because a replay does not work at every moment of a call.
    ratio = statistics.fmean(busy) / statistics.fmean(quiet)
    return (
        f"replay: hang-up to recorded, while {what}",
        f"{ratio:.2f} x",
        f"{_summary(busy)}; without {_summary(quiet)}; {len(busy)} and {len(quiet)} calls by turns",
    )


def _summary(times_s: Sequence[float]) -> str:
    return f"{statistics.fmean(times_s) * 1000:.0f} ms on average, {max(times_s) * 1000:.0f} ms at most"


@dataclass
class _Waits:
    """Seconds from hang-up to recording of each call, by the load at that time.

    rebuilt: the number of recordings rebuilt meanwhile.
    """

    quiet: list[float] = field(default_factory=list)
    transcribing: list[float] = field(default_factory=list)
    rebuilding: list[float] = field(default_factory=list)
    rebuilt: int = 0


def _rebuilding(directory: Path) -> float:
    with ExitStack() as stack:
        variables = stack.enter_context(recorder.servers(directory))
        kafka = kafka_settings(variables)
        topics.apply(kafka, embedded=True)
        with recorder.process_of(variables | {"AUDIOTEXT_DATA_DIR": str(directory)}) as running:
            recorder.times_real_time(kafka, running)
        store = ObjectStore(
            S3Settings(
                endpoint=variables["AUDIOTEXT_S3__ENDPOINT"],
                access_key=variables["AUDIOTEXT_S3__ACCESS_KEY"],
                secret_key=SecretStr(variables["AUDIOTEXT_S3__SECRET_KEY"]),
                bucket=variables["AUDIOTEXT_S3__BUCKET"],
                ca_file=Path(variables["AUDIOTEXT_S3__CA_FILE"]),
            )
        )
        parts = [
            (event, Manifest.model_validate_json(store.get(event.manifest.key)))
            for event in _recorded(kafka)
            if event.duration_ms >= recorder.CALL_S * 1000
        ]
        rebuilder = RecordingRebuilder(kafka, store, directory / "rebuilt", partial(read_calls, kafka))
        before = time.process_time()
        found = [rebuilder.rebuild(group, threading.Event()) for group in by_partition(parts).values()]
        took = time.process_time() - before
        wrong = [one for group in found for one in group.values() if one.same is not True]
        assert not wrong, wrong
        return sum(event.duration_ms for event, _ in parts) / 1000 / took


def _recorded(kafka: KafkaSettings) -> list[RecordingReady]:
    consumer = Consumer(consumer_config(kafka, "bench-recorded"))
    places = [TopicPartition(Topic.RECORDING_READY, number, 0) for number in (0, 1)]
    ends = [consumer.get_watermark_offsets(place, 10)[1] for place in places]
    consumer.assign(places)
    found: list[RecordingReady] = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(found) < sum(ends) and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            event = parse_event(message.value() or b"")
            assert isinstance(event, RecordingReady)
            found.append(event)
    consumer.close()
    return found


def _beside(directory: Path) -> _Waits:
    port = next(port for port in range(18_080, 65_535) if port_is_free(port, "127.0.0.1"))
    settings = Settings.model_validate(
        {
            "data_dir": directory / "data",
            "gateway": {"port": port},
            "admin_key": secrets.token_hex(16),
            "twilio": {"auth_token": secrets.token_hex(16)},
        }
    )
    stack = Stack(settings, lambda _line: None)
    try:
        stack.start()
        stack.wait_ready()
        with resources.as_file(resources.files("audiotext") / "demo_calls") as folder:
            short = _noise(directory / "short.wav")
            return asyncio.run(_rounds(stack.settings, folder / "clinic_reschedule.flac", short))
    finally:
        stack.force_stop()
        stack.stop()


async def _rounds(settings: Settings, audio: Path, short: Path) -> _Waits:
    calls = CallStore(settings.clickhouse)
    replays = _Replays(settings, calls)
    waits = _Waits()
    with closing(_Recorded(settings.kafka)) as recorded:
        await _hang_up_to_recorded(settings, audio, recorded, "replayed")
        long = [f"long-{number}" for number in range(LONG)]
        await asyncio.to_thread(
            recorder.produce,
            Producer(producer_config(settings.kafka)),
            [list(recorder.call(one, LONG_S)) for one in long],
        )
        await _until(lambda: all(_complete(calls, one) for one in ("replayed", *long)))
        languages = iter(LANGUAGES)

        async def play_calls(kind: str) -> list[float]:
            found = [await _hang_up_to_recorded(settings, short, recorded, f"{kind}-{one}") for one in range(CALLS)]
            await _until(lambda: _complete(calls, f"{kind}-{CALLS - 1}"))
            return found

        for number in range(ROUNDS):
            waits.quiet += await play_calls(f"quiet-{number}")
            transcribing = [
                replays.start(("replayed",), "recording", ReplayOverrides(language=next(languages))) for _ in range(3)
            ]
            await asyncio.sleep(_UNDER_WAY_S)
            waits.transcribing += await play_calls(f"transcribing-{number}")
            assert any(replays.running(one) for one in transcribing), "the replay finished too early"
            await _until(lambda names=transcribing: not any(map(replays.running, names)))  # type: ignore[misc]
            assert not any(map(replays.failed, transcribing))

            over = asyncio.Event()
            rebuilding = asyncio.ensure_future(replays.one_after_the_other(long, over))
            await asyncio.sleep(_UNDER_WAY_S)
            before = replays.done
            waits.rebuilding += await play_calls(f"rebuilding-{number}")
            waits.rebuilt += replays.done - before
            over.set()
            await rebuilding
    return waits


class _Replays:
    """Starts replays and follows them."""

    def __init__(self, settings: Settings, calls: CallStore) -> None:
        self._calls = calls
        self._store = ReplayStore(settings.clickhouse)
        self._service = ReplayService(EventProducer(settings.kafka).send, ObjectStore(settings.s3), self._store)
        self.done = 0
        """Finished parts of the replays that ran one after the other."""

    def start(self, call_ids: Sequence[str], stage: ReplayStage, overrides: ReplayOverrides) -> str:
        chosen = choose(self._calls, Selection(call_ids=tuple(call_ids)), stage)
        return self._service.start(chosen, stage, overrides, tenant=None)

    def running(self, replay_id: str) -> bool:
        return self._look(replay_id).state != "done"

    def failed(self, replay_id: str) -> int:
        return self._look(replay_id).failed

    async def one_after_the_other(self, call_ids: Sequence[str], over: asyncio.Event) -> None:
        """Replays from `media` until `over` is set. The next replay waits on the log while one runs."""
        names = [self.start(call_ids, "media", ReplayOverrides()) for _ in range(2)]
        finished = 0
        while names:
            await asyncio.sleep(0.1)
            found = [await asyncio.to_thread(self._look, name) for name in names]
            self.done = finished + sum(one.done for one in found)
            for one in found:
                assert not one.failed, one
                if one.state == "done":
                    finished += one.done
                    names.remove(one.id)
                    if not over.is_set():
                        names.append(await asyncio.to_thread(self.start, call_ids, "media", ReplayOverrides()))

    def _look(self, replay_id: str) -> ReplayDoc:
        found = self._store.get_replay(replay_id, None)
        assert found is not None
        return found


async def _hang_up_to_recorded(settings: Settings, audio: Path, recorded: "_Recorded", call_id: str) -> float:
    assert settings.twilio.auth_token is not None
    await play(
        audio,
        url=f"ws://127.0.0.1:{settings.gateway.port}/v1/media/twilio",
        auth_token=settings.twilio.auth_token.get_secret_value(),
        public_url=settings.base_url,
        call_id=call_id,
        speed=SPEED,
    )
    began = time.monotonic()
    await asyncio.to_thread(recorded.wait, call_id)
    return time.monotonic() - began


class _Recorded:
    """Follows the topic recording.ready."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._consumer = Consumer(
            consumer_config(kafka.model_copy(update={"instance_id": None}), "bench-recorded")
            | {"fetch.wait.max.ms": 10}
        )
        numbers = self._consumer.list_topics(Topic.RECORDING_READY, timeout=10).topics[Topic.RECORDING_READY].partitions
        self._consumer.assign([TopicPartition(Topic.RECORDING_READY, number, 0) for number in numbers])
        self._seen: set[bytes] = set()

    def wait(self, call_id: str) -> None:
        """Waits until the call is recorded."""
        deadline = time.monotonic() + TIMEOUT_S
        while call_id.encode() not in self._seen:
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self._seen.add(message.key() or b"")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{call_id} was not recorded within {TIMEOUT_S} s")

    def close(self) -> None:
        self._consumer.close()


def _complete(calls: CallStore, call_id: str) -> bool:
    call = calls.get_call(call_id, None)
    return call is not None and call.status == "complete"


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the replay did not end within {TIMEOUT_S} s")
        await asyncio.sleep(0.2)


def _noise(path: Path) -> Path:
    """Writes a short call without speech."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(random.Random(1).randbytes(SHORT_S * 8_000 * 4))
    return path


if __name__ == "__main__":
    for what, figure, beside in rows():
        print(f"| {what} | {figure} | {beside} |")
