"""`audiotext replay`, `versions` and `erase` as an operator uses them, against real stores."""

import io
import json
import uuid

import pytest

from audiotext.cli import main
from audiotext.stack.environment import to_variables
from core.settings import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings, Settings
from sinks.clickhouse.client import Database
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore
from tests.api.conftest import Put, transcript_id


@pytest.fixture
def put(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    s3: S3Settings,
    qdrant: QdrantSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> Put:
    """Puts calls into the stores that the command line is pointed to."""
    settings = Settings(kafka=kafka, clickhouse=clickhouse, s3=s3, qdrant=qdrant)
    for name, value in to_variables(settings).items():
        monkeypatch.setenv(name, value)
    return Put(Database(clickhouse), ObjectStore(s3), VectorStore(qdrant))


def test_a_replay_from_the_shell(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Prices a replay, starts, lists, stops, resumes it; a second stop changes nothing. Its id is alone on stdout, so
    that a script can take it."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call("acme", call_id)
    start = ["replay", "start", "--stage", "recording", "--calls", call_id]

    assert main.main([*start, "--failed"]) == 1  # it is there, it only did not fail
    assert f"the filters (status, times, text) exclude {call_id}" in capsys.readouterr().err
    assert main.main([*start, "--dry-run"]) == 0
    priced = capsys.readouterr()
    assert (priced.out, "cost 0.000025, price 0 USD" in priced.err) == ("", True)
    assert main.main(start) == 0
    replay_id = capsys.readouterr().out.strip()
    for command, words in (("status", "running"), ("stop", "stopped"), ("stop", "stopped"), ("resume", "running")):
        assert main.main(["replay", command, replay_id]) == 0
        assert f"{replay_id}: {words}, 0 of 1 done" in capsys.readouterr().out
    assert main.main(["replay", "list"]) == 0
    assert replay_id in capsys.readouterr().out


def test_versions_and_erasure_from_the_shell(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """The one version of a call is listed, compared with itself, and chosen; then the call is erased, and is gone."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call("acme", call_id)
    version = transcript_id("acme", call_id, 1)

    assert main.main(["versions", "list", call_id]) == 0
    assert version in capsys.readouterr().out
    assert main.main(["versions", "compare", call_id]) == 0
    assert "word error rate 0.0%" in capsys.readouterr().out
    assert main.main(["versions", "use", call_id[:20], f"{version[:8]}…"]) == 0
    assert f"{version} is current" in capsys.readouterr().out
    assert main.main(["versions", "list", call_id, "--json"]) == 0
    assert [row["version_id"] for row in json.loads(capsys.readouterr().out) if row["of"] == "transcript"] == [version]
    assert main.main(["erase", call_id]) == 0
    capsys.readouterr()
    assert main.main(["versions", "list", call_id]) == 1
    assert "there is no call" in capsys.readouterr().err


class Terminal(io.StringIO):
    """Standard input that is a terminal at which somebody has typed a line."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_erase_asks_on_a_terminal(
    put: Put, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erases a call on a terminal: with no answer or another answer than yes the call is still there, with `y` it is
    gone, and with --yes nothing is asked. If this fails, a typing mistake erases calls for good."""
    kept, erased, unasked = (f"CA{uuid.uuid4().hex}" for _ in range(3))
    for call_id in (kept, erased, unasked):
        put.call("acme", call_id)
    for answer in ("", "\n", "n\n", "what?\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert main.main(["erase", kept]) == 1
        error = capsys.readouterr().err
        assert kept in error
        assert "Erase 1 call," in error
        assert error.endswith("audiotext: nothing was erased\n")
        assert main.main(["versions", "list", kept]) == 0
        capsys.readouterr()
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert main.main(["erase", erased]) == 0
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert main.main(["erase", unasked, "--yes"]) == 0
    for call_id in (erased, unasked):
        assert main.main(["versions", "list", call_id]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "start", "--stage", "media", "--calls", "nobody"], "there is no call nobody"),
        (["replay", "start", "--stage", "summary", "--all", "--language", "de"], "replay from `recording`"),
        (["replay", "status", "rp-nothing"], "audiotext replay list"),
        (["replay", "start", "--stage", "media", "--all", "--query", "nobody"], "no call passes the filters"),
        (["erase", "nobody"], "there is no call nobody"),
    ],
)
def test_mistakes(put: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """Each is one sentence with the cure."""
    assert main.main(arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "start", "--stage", "media"], "--calls"),
        (["replay", "start", "--stage", "media", "--query", ""], "query"),
        (["replay", "start", "--stage", "media", "--query", "", "--all"], "query"),
        (["replay", "start", "--stage", "media", "--calls", ""], "calls"),
        (["versions", "use"], "--replay"),
        (["versions", "use", "CA1"], "versions list"),
        (["versions", "use", "CA1", "--before", "7d"], "--replay"),
        (["versions", "use", "--before", "7d", "--query", ""], "query"),
    ],
)
def test_nothing_is_selected_by_nothing(
    put: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Empty filters are a mistake in the command line: exit code 2, and no call is touched. If it failed, a variable
    that a script did not set would have every call processed again."""
    assert main.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_versions_of_many_calls_from_the_shell(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts how many calls of a tenant would be switched back, by a time and by a replay; a replay is requested that
    keeps the current versions."""
    tenant = f"tenant-{uuid.uuid4().hex}"
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(tenant, call_id)
    assert main.main(["versions", "use", "--before", "2026-11-01", "--tenant", tenant, "--dry-run"]) == 0
    assert "would switch 0 of 1 call" in capsys.readouterr().out
    assert main.main(["replay", "start", "--stage", "summary", "--calls", call_id, "--keep-current"]) == 0
    replay_id = capsys.readouterr().out.strip()
    assert main.main(["versions", "use", "--before", replay_id]) == 0
    assert "switched 0 of 0 calls" in capsys.readouterr().out
    assert main.main(["replay", "list", "--json"]) == 0
    assert '"keep_current": true' in capsys.readouterr().out
