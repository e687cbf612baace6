"""What replays do to live calls, and how fast recordings are made again.

Rebuilding is from records on the log to WAVs compared with those that are stored; figures are seconds of call per
second of CPU, all threads of the process included. The other row plays calls into a whole stack, by turns while a
replay transcribes other calls again and while none does, and compares how long they take from hanging up to being
recorded, upload included.

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
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from importlib import resources
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from pydantic import SecretStr

from audiotext.embedded.server import port_is_free
from audiotext.settings import KafkaSettings, S3Settings, Settings
from audiotext.stack import Stack
from bench import recorder
from gateway.simulator import play
from pipelines.recorder.media_log import read_calls
from pipelines.replay.rebuilding import Rebuilder, by_partition
from pipelines.replay.requests import Desk
from pipelines.replay.selection import Selection, choose
from redpanda import topics
from redpanda.client import EventProducer, consumer_config
from schemas.artifacts import Manifest
from schemas.events import RecordingReady, ReplayOverrides, parse_event
from schemas.topics import Topic
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_store import ReplayStore
from sinks.objects import ObjectStore

ROUNDS, CALLS = 3, 4  # calls of each kind in each round
SPEED = 20.0
LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "pl")  # other settings: everything is transcribed again
SHORT_S = 4
TIMEOUT_S = 180
_UNDER_WAY_S = 3.0  # from asking for a replay to its engine being at work

Row = tuple[str, str, str]


def rows() -> list[Row]:
    """Runs the benchmark (two to three minutes) and returns its rows."""
    with tempfile.TemporaryDirectory() as directory:
        rebuilt = _rebuilding(Path(directory))
    with tempfile.TemporaryDirectory() as directory:
        quiet, busy = _beside(Path(directory))
    ratio = statistics.median(busy) / statistics.median(quiet)
    return [
        (
            "replay: recordings made again from the log",
            f"{rebuilt:,.0f} x real time",
            f"{recorder.CALLS} calls of {recorder.CALL_S} s, all the same to the byte, per core",
        ),
        (
            "replay: hang-up to recorded, while one runs",
            f"{ratio:.2f} x",
            f"median {statistics.median(busy) * 1000:.0f} ms to {statistics.median(quiet) * 1000:.0f} ms without, "
            f"{len(busy)} and {len(quiet)} calls by turns",
        ),
    ]


def _rebuilding(directory: Path) -> float:
    with ExitStack() as stack:
        variables = stack.enter_context(recorder.servers(directory))
        kafka = KafkaSettings(bootstrap_servers=variables["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"])
        topics.apply(kafka, embedded=True)
        with recorder.process_of(variables | {"AUDIOTEXT_DATA_DIR": str(directory)}) as running:
            recorder.times_real_time(kafka, running)
        store = ObjectStore(
            S3Settings(
                endpoint=variables["AUDIOTEXT_S3__ENDPOINT"],
                access_key=variables["AUDIOTEXT_S3__ACCESS_KEY"],
                secret_key=SecretStr(variables["AUDIOTEXT_S3__SECRET_KEY"]),
                bucket=variables["AUDIOTEXT_S3__BUCKET"],
            )
        )
        parts = [
            (event, Manifest.model_validate_json(store.get(event.manifest.key)))
            for event in _recorded(kafka)
            if event.duration_ms >= recorder.CALL_S * 1000
        ]
        rebuilder = Rebuilder(kafka, store, directory / "rebuilt", partial(read_calls, kafka))
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


def _beside(directory: Path) -> tuple[list[float], list[float]]:
    """Seconds from hanging up to being recorded of each call: without a replay, and with one."""
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
        stack.hurry()
        stack.stop()


async def _rounds(settings: Settings, audio: Path, short: Path) -> tuple[list[float], list[float]]:
    calls, replays = CallStore(settings.clickhouse), ReplayStore(settings.clickhouse)
    desk = Desk(EventProducer(settings.kafka).send, ObjectStore(settings.s3), replays)
    with closing(_Recorded(settings.kafka)) as recorded:
        await _hang_up_to_recorded(settings, audio, recorded, "replayed")
        await _until(lambda: _complete(calls, "replayed"))
        chosen = choose(calls, Selection(call_ids=("replayed",)), "recording")
        languages = iter(LANGUAGES)
        quiet: list[float] = []
        busy: list[float] = []
        for number in range(ROUNDS):
            for one in range(CALLS):
                quiet.append(await _hang_up_to_recorded(settings, short, recorded, f"quiet-{number}-{one}"))
            await _until(lambda last=f"quiet-{number}-{CALLS - 1}": _complete(calls, last))  # type: ignore[misc]
            running = [
                desk.start(chosen, "recording", ReplayOverrides(language=next(languages)), tenant=None)
                for _ in range(2)
            ]
            await asyncio.sleep(_UNDER_WAY_S)
            for one in range(CALLS):
                busy.append(await _hang_up_to_recorded(settings, short, recorded, f"busy-{number}-{one}"))
            found = [replays.get_replay(name, None) for name in running]
            assert any(one and one.state == "running" for one in found), "the replay was through too early"
            await _until(lambda names=running: all(_through(replays, name) for name in names))  # type: ignore[misc]
            await _until(lambda last=f"busy-{number}-{CALLS - 1}": _complete(calls, last))  # type: ignore[misc]
    return quiet, busy


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
    """Reads recording.ready as it grows."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._consumer = Consumer(
            consumer_config(kafka.model_copy(update={"instance_id": None}), "bench-recorded")
            | {"fetch.wait.max.ms": 10}
        )
        numbers = self._consumer.list_topics(Topic.RECORDING_READY, timeout=10).topics[Topic.RECORDING_READY].partitions
        self._consumer.assign([TopicPartition(Topic.RECORDING_READY, number, 0) for number in numbers])
        self._seen: set[bytes] = set()

    def wait(self, call_id: str) -> None:
        """Returns once the call is recorded."""
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


def _through(replays: ReplayStore, replay_id: str) -> bool:
    replay = replays.get_replay(replay_id, None)
    return replay is not None and replay.state == "done"


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {TIMEOUT_S} s")
        await asyncio.sleep(0.2)


def _noise(path: Path) -> Path:
    """A short call in which nobody speaks."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(random.Random(1).randbytes(SHORT_S * 8_000 * 4))
    return path


if __name__ == "__main__":
    for what, figure, beside in rows():
        print(f"| {what} | {figure} | {beside} |")
