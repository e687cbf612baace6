"""Log, stores and services for a replay, each in its own process."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from audiotext.embedded import clickhouse, log, objects, qdrant
from audiotext.embedded import kafka as embedded_kafka
from audiotext.embedded.server import Server
from audiotext.embedded.state import State
from audiotext.stack.environment import child_environment
from core import process
from core.settings import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings, Settings
from redpanda import topics
from sinks.object_store import ObjectStore
from tests.support.running_server import RunningServer

BUCKET = "audiotext"
SERVICES = ("recorder", "transcriber", "summarizer", "embedder", "usage", "analytics", "replayer")
_SESSION_MS = 6_000
_ENDS = 10


class Workers:
    """Processes of the services. Each can be killed and started again by its name."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._folder = folder
        self._env = child_environment(os.environ, settings)
        self._ended = Counter[str]()
        self._running = {name: self._spawn(name) for name in SERVICES}

    def kill(self, name: str) -> None:
        """Kills a service with SIGKILL and starts it again."""
        process.kill(self._running[name])
        self._running[name].wait()
        self._running[name] = self._spawn(name)

    def pid(self, name: str) -> int:
        """Returns the process id of a service."""
        return self._running[name].pid

    def restart_ended(self) -> None:
        """Restarts services that have ended by themselves, like a supervisor. Fails if one ends again and again."""
        for name, running in self._running.items():
            if running.poll() is not None:
                self._ended[name] += 1
                assert self._ended[name] < _ENDS, f"{name} ends again and again: {self._folder / name}.log"
                self._running[name] = self._spawn(name)

    def end(self) -> None:
        """Kills all services."""
        for running in self._running.values():
            process.kill(running)
            running.wait()

    def _spawn(self, name: str) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{name}.log").open("ab") as output:
            command = (sys.executable, "-m", "tests.replay.fake_stt_service", name)
            return process.spawn(command, env=self._env, output=output, cwd=Path(__file__).parents[2], nice=5)


@contextmanager
def running(folder: Path, *, on_kafka: bool, extra: Mapping[str, object] | None = None) -> Iterator[Workers]:
    """Starts everything and stops it at the end. extra: other settings, by section."""
    makers: dict[str, Callable[[State], Sequence[Server]]] = {
        "log": (lambda state: embedded_kafka.servers(state, 1)) if on_kafka else log.servers,
        "objects": lambda state: [objects.server(state, BUCKET)],
        "clickhouse": lambda state: [clickhouse.server(state)],
        "qdrant": lambda state: [qdrant.server(state)],
    }
    with ExitStack() as stack:
        addresses: dict[str, str] = {}
        for name, make in makers.items():
            (folder / name).mkdir()
            server = RunningServer(folder / name, make, start_timeout_s=90)
            stack.callback(server.kill)
            addresses |= server.start().addresses
        settings = _settings(addresses, folder, on_kafka=on_kafka, extra=extra or {})
        topics.apply(settings.kafka, embedded=not on_kafka)
        ObjectStore(settings.s3).ensure_bucket()
        workers = Workers(settings, folder)
        stack.callback(workers.end)
        yield workers


def _settings(addresses: Mapping[str, str], folder: Path, *, on_kafka: bool, extra: Mapping[str, object]) -> Settings:
    def named(section: str) -> dict[str, str]:
        prefix = f"AUDIOTEXT_{section}__"
        return {
            name.removeprefix(prefix).lower(): value for name, value in addresses.items() if name.startswith(prefix)
        }

    return Settings.model_validate(
        {
            "data_dir": folder / "data",
            "kafka": KafkaSettings.model_validate(
                named("KAFKA") | {"instance_id": "one", "session_timeout_ms": _SESSION_MS, "partitions": 2}
            ),
            "s3": S3Settings.model_validate(named("S3") | {"bucket": BUCKET}),
            "clickhouse": ClickHouseSettings.model_validate(named("CLICKHOUSE")),
            "qdrant": QdrantSettings.model_validate(named("QDRANT")),
            "recorder": {"grace_ms": 200, "idle_timeout_ms": 3_000, "commit_interval_s": 0.2},
            **extra,
        }
    )
