"""`audiotext replay`, `versions` and `erase` as an operator uses them, against real stores."""

import uuid

import pytest

from audiotext.cli import main
from audiotext.stack.environment import variables
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
    for name, value in variables(settings).items():
        monkeypatch.setenv(name, value)
    return Put(Database(clickhouse), ObjectStore(s3), VectorStore(qdrant))


def test_a_replay_from_the_shell(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Prices a replay, starts, lists, stops, resumes it; a second stop changes nothing. Its id is alone on stdout, so
    that a script can take it."""
    call_id = f"CA{uuid.uuid4().hex}"
    put.call("acme", call_id)
    start = ["replay", "start", "--stage", "recording", "--calls", call_id]

    assert main.main([*start, "--failed"]) == 1  # it is there, it only did not fail
    assert f"the filters (status, times, text) leave out {call_id}" in capsys.readouterr().err
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
    assert main.main(["versions", "use", call_id, version]) == 0
    assert main.main(["erase", call_id]) == 0
    capsys.readouterr()
    assert main.main(["versions", "list", call_id]) == 1
    assert "there is no call" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "start", "--stage", "media"], "--calls"),
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
