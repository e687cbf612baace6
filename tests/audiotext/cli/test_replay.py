"""`audiotext replay`, `versions` and `erase` against real stores."""

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
    """Returns a helper that stores calls, and sets the environment so that commands use the same stores."""
    settings = Settings(kafka=kafka, clickhouse=clickhouse, s3=s3, qdrant=qdrant)
    for name, value in to_variables(settings).items():
        monkeypatch.setenv(name, value)
    return Put(Database(clickhouse), ObjectStore(s3), VectorStore(qdrant))


def test_a_replay_from_the_shell(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Estimates, starts, lists, stops and resumes a replay; a second stop changes nothing.

    The id is the only line on stdout, so that scripts can read it.
    """
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
    """Lists, compares and chooses the version of a call, then erases the call: it is gone."""
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


def test_a_call_id_of_several_tenants_needs_a_tenant(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Stores calls of two tenants with the same id and runs each command for it, with the id and with its beginning.

    Without --tenant each command names both tenants and does nothing; with --tenant it works on that tenant's call.
    A failure means that a command could replay, switch or erase the call of the wrong tenant.
    """
    call_id = f"CA{uuid.uuid4().hex}"
    owners = [f"tenant-{name}-{uuid.uuid4().hex[:6]}" for name in ("a", "b")]
    for owner in owners:
        put.call(owner, call_id)
    version = transcript_id(owners[1], call_id, 1)
    commands = [
        ["versions", "list", call_id],
        ["versions", "list", call_id[:20]],
        ["versions", "compare", call_id],
        ["versions", "use", call_id, version],
        ["versions", "use", "--before", "1h", "--calls", call_id],
        ["replay", "start", "--stage", "recording", "--calls", call_id],
        ["erase", call_id, "--yes"],
    ]
    for command in commands:
        assert main.main(command) == 1, command
        assert f"choose one of {', '.join(owners)} with `tenant`" in capsys.readouterr().err, command
    for command in commands:
        assert main.main([*command, "--tenant", owners[1]]) == 0, command
    capsys.readouterr()
    assert main.main(["versions", "list", call_id]) == 0
    assert transcript_id(owners[0], call_id, 1) in capsys.readouterr().out


class Terminal(io.StringIO):
    """Standard input that is a terminal on which a user has typed a line."""

    def isatty(self) -> bool:
        """Returns True."""
        return True


def test_erase_needs_a_confirmation_on_a_terminal(
    put: Put, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erases calls on a terminal with different answers, and with --yes.

    Only `y` erases the call; --yes does not ask. A failure means that a typing mistake erases calls forever.
    """
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
def test_mistakes_are_one_line(put: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """Runs commands with unknown calls and replays: each error is one line with the fix."""
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
def test_empty_filters_are_usage_errors(
    put: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Runs commands with empty filters: the exit code is 2, and no call is changed.

    A failure means that a script with an unset variable processes every call again.
    """
    assert main.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_versions_of_many_calls_from_the_shell(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts the calls of a tenant that would be switched back, by a time and by a replay.

    Then it starts a replay with --keep-current and finds this in the list.
    """
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
