"""Real engines for every test: one embedded log, object storage, ClickHouse and Qdrant per test session.

They are shared, so a test takes call ids, tenants and consumer groups of its own. Consumer groups above all: the
embedded log never expires a dead member, so a group that was used once stays stuck for the next user.
A test that kills or stops a server starts one of its own with `start_server`.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from pydantic import SecretStr

from audiotext.embedded import clickhouse as embedded_clickhouse
from audiotext.embedded import log as embedded_log
from audiotext.embedded import qdrant as embedded_qdrant
from audiotext.embedded.server import Server
from audiotext.embedded.state import State
from core.settings import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings
from redpanda import topics
from sinks.object_store import ObjectStore
from tests.support import object_servers
from tests.support.object_servers import BUCKET
from tests.support.running_server import RunningServer

pytest_plugins = ["tests.support.chromium", "tests.support.kafka_backend"]

MAKERS: dict[str, Callable[[State], list[Server]]] = {
    "log": embedded_log.servers,
    "objects": lambda state: [object_servers.server(state)],
    "clickhouse": lambda state: [embedded_clickhouse.server(state)],
    "qdrant": lambda state: [embedded_qdrant.server(state)],
}

StartServer = Callable[[str], RunningServer]

# By the time they take. `make test` gives whole files to its workers, and one that is begun last must not be long.
LONGEST_FIRST = (
    "pipelines/recorder/test_app.py",
    "chaos/test_broker.py",
    "pipelines/recorder/test_group.py",
    "pipelines/runtime/test_runner.py",
    "pipelines/recorder/test_takeover.py",
    "e2e/test_restart.py",
    "e2e/test_carriers.py",
    "chaos/test_recorder.py",
    "pipelines/providers/test_whisper.py",
    "audiotext/embedded/test_kafka.py",
    "pipelines/test_transcriber.py",
    "gateway/test_log_writer.py",
)
_TESTS = Path(__file__).parent


# Cases are new in every run, also where Hypothesis would take CI for a reason to have the same ones; a failure prints
# the line that has it again. How long a case takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "audiotext",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("audiotext")

# Before anything reads settings: tests see defaults, whatever the shell that runs them has set.
for variable in [name for name in os.environ if name.upper().startswith("AUDIOTEXT_")]:
    del os.environ[variable]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the rest stays in its order."""
    places = {_TESTS / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def _settings_from_nowhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No audiotext.toml is picked up from the directory the tests run in."""
    monkeypatch.chdir(tmp_path_factory.getbasetemp())


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a server of the test's own ("log", "objects", "clickhouse", "qdrant"), to be stopped or killed."""
    started: list[RunningServer] = []

    def start(name: str) -> RunningServer:
        server = RunningServer(tmp_path_factory.mktemp(name), MAKERS[name])
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()  # quicker, and nobody needs its data any more


def _session_server(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[RunningServer]:
    directory: Path = tmp_path_factory.mktemp(f"session-{name}")
    server = RunningServer(directory, MAKERS[name])
    try:
        yield server.start()
    finally:
        server.kill()  # quicker, and nobody needs its data any more


@pytest.fixture(scope="session")
def log_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The shared embedded log. Do not stop it."""
    yield from _session_server(tmp_path_factory, "log")


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The shared object storage. Do not stop it."""
    yield from _session_server(tmp_path_factory, "objects")


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The shared ClickHouse. Do not stop it."""
    yield from _session_server(tmp_path_factory, "clickhouse")


@pytest.fixture(scope="session")
def qdrant_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The shared vector store. Do not stop it."""
    yield from _session_server(tmp_path_factory, "qdrant")


@pytest.fixture(scope="session")
def kafka(log_server: RunningServer) -> KafkaSettings:
    """A running log with every topic on it."""
    settings = kafka_settings(log_server)
    topics.apply(settings, embedded=True)
    return settings


@pytest.fixture(scope="session")
def s3(object_server: RunningServer) -> S3Settings:
    """Running object storage with its bucket."""
    settings = s3_settings(object_server)
    ObjectStore(settings).ensure_bucket()
    return settings


@pytest.fixture(scope="session")
def clickhouse(clickhouse_server: RunningServer) -> ClickHouseSettings:
    """A running ClickHouse, empty."""
    return clickhouse_settings(clickhouse_server)


@pytest.fixture(scope="session")
def qdrant(qdrant_server: RunningServer) -> QdrantSettings:
    """A running vector store, empty."""
    return qdrant_settings(qdrant_server)


def kafka_settings(server: RunningServer) -> KafkaSettings:
    """How to reach that log."""
    return KafkaSettings(bootstrap_servers=server.addresses["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"])


def s3_settings(server: RunningServer) -> S3Settings:
    """How to reach that object storage."""
    return S3Settings(
        endpoint=server.addresses["AUDIOTEXT_S3__ENDPOINT"],
        access_key=server.addresses["AUDIOTEXT_S3__ACCESS_KEY"],
        secret_key=SecretStr(server.addresses["AUDIOTEXT_S3__SECRET_KEY"]),
        bucket=BUCKET,
    )


def clickhouse_settings(server: RunningServer) -> ClickHouseSettings:
    """How to reach that ClickHouse."""
    return ClickHouseSettings(dsn=SecretStr(server.addresses["AUDIOTEXT_CLICKHOUSE__DSN"]))


def qdrant_settings(server: RunningServer) -> QdrantSettings:
    """How to reach that vector store."""
    return QdrantSettings(
        url=server.addresses["AUDIOTEXT_QDRANT__URL"], api_key=SecretStr(server.addresses["AUDIOTEXT_QDRANT__API_KEY"])
    )
