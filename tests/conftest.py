"""Real servers for every test: one embedded log, object storage, ClickHouse and Qdrant per test session.

Tests share them, so each test uses its own call ids, tenants and consumer groups. The embedded log never expires a dead
member, so a consumer group that was used once stays blocked. A test that kills or stops a server starts its own with
`start_server`.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
from tests.support import log_variables, object_servers
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

# Fixtures that start a browser or a service, or load a model. A test that uses one, also indirectly, gets the marker
# `server`, like a test with a fixture that creates one of `_SERVERS`. A test that starts a process itself sets the
# marker in its module.
_SERVER_FIXTURES = frozenset(
    {"start_server", "any_log", "own_log", "kafka_installed", "up", "chromium", "whisper", "minilm"}
)
_SERVERS = frozenset({"RunningServer", "KafkaNodes", "_session_server"})
_MAY_START_PROCESSES = ("server", "kafka", "slow", "alone")  # markers
_TESTS = Path(__file__).parent
_DURATIONS = _TESTS / "durations.json"

# Cases are new in every run, also where Hypothesis would take CI for a reason to have the same ones; a failure prints
# the line that has it again. How long a case takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "audiotext",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("unit", hypothesis.settings.get_profile("audiotext"), max_examples=20)
hypothesis.settings.load_profile("audiotext")

# Before anything reads settings: tests see defaults, whatever the shell that runs them has set.
for variable in [name for name in os.environ if name.upper().startswith("AUDIOTEXT_")]:
    del os.environ[variable]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--store-durations`, which `make durations` uses."""
    parser.addoption("--store-durations", action="store_true", help=f"write the seconds per file to {_DURATIONS.name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a server, and sorts the files by their recorded durations, longest first.

    `make test` gives whole files to its workers, and waits at the end if a long file starts last. A file without a
    recorded duration starts first.
    """
    for item in items:
        if isinstance(item, pytest.Function) and _uses_a_server(item):
            item.add_marker("server")
    seconds = json.loads(_DURATIONS.read_text())
    items.sort(key=lambda item: -seconds.get(_file_of(item.path), float("inf")))


def _uses_a_server(item: pytest.Function) -> bool:
    """True if a fixture of the test is one of _SERVER_FIXTURES, or its code names one of _SERVERS."""
    if not _SERVER_FIXTURES.isdisjoint(item.fixturenames):
        return True
    fixtures = [fixture.func for found in item._fixtureinfo.name2fixturedefs.values() for fixture in found]
    codes = [function.__code__ for function in fixtures if hasattr(function, "__code__")]
    return any(not _SERVERS.isdisjoint(code.co_names) for code in codes)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Writes the seconds per file to durations.json with `--store-durations`. Files that did not run keep theirs."""
    if not config.getoption("--store-durations"):
        return
    measured: dict[str, float] = {}
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if isinstance(report, pytest.TestReport):
            name = _file_of(config.rootpath / report.nodeid.partition("::")[0])
            measured[name] = measured.get(name, 0.0) + report.duration
    kept = json.loads(_DURATIONS.read_text())
    merged = {name: round(value, 1) for name, value in (kept | measured).items() if (_TESTS / name).exists()}
    _DURATIONS.write_text(json.dumps(dict(sorted(merged.items())), indent=0) + "\n")


def _file_of(path: Path) -> str:
    return path.relative_to(_TESTS).as_posix()


@pytest.fixture(autouse=True)
def _no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test without a marker for it start no process, so that `make unit` stays quick."""
    if not any(request.node.get_closest_marker(name) for name in _MAY_START_PROCESSES):
        monkeypatch.setattr(subprocess.Popen, "__init__", _refuse_process)


def _refuse_process(_self: object, command: object, *_args: object, **_options: object) -> None:
    pytest.fail(f"this test starts a process ({command}): give it the marker `server`")


@pytest.fixture(autouse=True)
def _no_settings_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes to a directory without an audiotext.toml."""
    monkeypatch.chdir(tmp_path_factory.getbasetemp())


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a server for one test ("log", "objects", "clickhouse", "qdrant"), which may be stopped or killed."""
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
    """Returns the settings of the shared log, with all topics."""
    settings = kafka_settings(log_server)
    topics.apply(settings, embedded=True)
    return settings


@pytest.fixture(scope="session")
def s3(object_server: RunningServer) -> S3Settings:
    """Returns the settings of the shared object storage, with its bucket."""
    settings = s3_settings(object_server)
    ObjectStore(settings).ensure_bucket()
    return settings


@pytest.fixture(scope="session")
def clickhouse(clickhouse_server: RunningServer) -> ClickHouseSettings:
    """Returns the settings of the shared ClickHouse."""
    return clickhouse_settings(clickhouse_server)


@pytest.fixture(scope="session")
def qdrant(qdrant_server: RunningServer) -> QdrantSettings:
    """Returns the settings of the shared vector store."""
    return qdrant_settings(qdrant_server)


def kafka_settings(server: RunningServer) -> KafkaSettings:
    """Returns the settings of an embedded log."""
    return log_variables.from_variables(server.addresses)


def s3_settings(server: RunningServer) -> S3Settings:
    """Returns the settings of an embedded object storage."""
    return S3Settings(
        endpoint=server.addresses["AUDIOTEXT_S3__ENDPOINT"],
        access_key=server.addresses["AUDIOTEXT_S3__ACCESS_KEY"],
        secret_key=SecretStr(server.addresses["AUDIOTEXT_S3__SECRET_KEY"]),
        bucket=BUCKET,
        ca_file=_path(server.addresses.get("AUDIOTEXT_S3__CA_FILE")),
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def clickhouse_settings(server: RunningServer) -> ClickHouseSettings:
    """Returns the settings of an embedded ClickHouse."""
    return ClickHouseSettings(
        dsn=SecretStr(server.addresses["AUDIOTEXT_CLICKHOUSE__DSN"]),
        ca_file=Path(server.addresses["AUDIOTEXT_CLICKHOUSE__CA_FILE"]),
    )


def qdrant_settings(server: RunningServer) -> QdrantSettings:
    """Returns the settings of an embedded vector store."""
    return QdrantSettings(
        url=server.addresses["AUDIOTEXT_QDRANT__URL"],
        api_key=SecretStr(server.addresses["AUDIOTEXT_QDRANT__API_KEY"]),
        ca_file=Path(server.addresses["AUDIOTEXT_QDRANT__CA_FILE"]),
    )
