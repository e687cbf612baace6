"""`audiotext dlq` on its own log."""

import json
from collections.abc import Callable

import pytest

from audiotext.cli.main import main
from core.settings import KafkaSettings
from redpanda import topics
from redpanda.client import EventProducer
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings
from tests.support.dead_letters import letter

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kafka(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """Returns the settings of an empty log, which the commands use, too."""
    server = start_server("log")
    settings = kafka_settings(server)
    topics.apply(settings, embedded=True)
    for name, value in server.addresses.items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def run(kafka: KafkaSettings, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a command on a log with three dead letters; one is not replayable."""
    now = 1_770_000_000_000
    EventProducer(kafka).send(
        Topic.DEAD_LETTERS,
        [
            letter("aaaa-1", now, '{"call_id":"CA1"}'),
            letter("abbb-2", now + 60_000),
            letter("cccc-3", now + 120_000, "\ufffd").model_copy(update={"stage": "embed"}),
        ],
    )

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main(["dlq", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_command


def ids(listed: str) -> list[str]:
    """Returns the ids of a list in its order."""
    return [line.split()[0] for line in listed.splitlines()[1:]]


def test_list_show_replay(run: Run) -> None:
    """Lists, filters, shows and replays dead letters by id and by stage.

    A replayed dead letter disappears from the list of open ones, stays in `list --all`, and is not replayed again.
    """
    assert ids(run("list")[1]) == ["aaaa-1", "abbb-2", "cccc-3"]
    assert ids(run("list", "--stage", "embed")[1]) == ["cccc-3"]
    assert ids(run("list", "--call", "call-abbb-2")[1]) == ["abbb-2"]
    assert ids(run("list", "--since", "2026-02-02T02:41")[1]) == ["abbb-2", "cccc-3"]

    code, shown, _ = run("show", "aaaa")
    assert code == 0
    assert json.loads(shown)["payload"] == {"call_id": "CA1"}

    assert run("replay", "aaaa")[0] == 0
    assert "was replayed" in run("replay", "aaaa")[2]
    assert ids(run("list")[1]) == ["abbb-2", "cccc-3"]
    code, replayed, _ = run("replay", "--stage", "transcribe")
    assert (code, [line.split()[0] for line in replayed.splitlines()]) == (0, ["abbb-2"])
    assert ids(run("list", "--all")[1]) == ["aaaa-1", "abbb-2", "cccc-3"]


def test_tenant_option_selects_the_calls_of_one_tenant(run: Run, kafka: KafkaSettings) -> None:
    """Lists and replays dead letters of a call id that two tenants use, each time for one of the tenants.

    A failure means that an operator who repairs one tenant's call sends another tenant's work back, too.
    """
    other = letter("dddd-4", 1_770_000_180_000).model_copy(update={"tenant": "other", "call_id": "call-abbb-2"})
    EventProducer(kafka).send(Topic.DEAD_LETTERS, [other])
    assert ids(run("list", "--tenant", "t")[1]) == ["aaaa-1", "abbb-2", "cccc-3"]
    assert ids(run("list", "--tenant", "other")[1]) == ["dddd-4"]
    assert ids(run("list", "--call", "call-abbb-2")[1]) == ["abbb-2", "dddd-4"]
    assert ids(run("list", "--call", "call-abbb-2", "--tenant", "t")[1]) == ["abbb-2"]

    code, replayed, _ = run("replay", "--call", "call-abbb-2", "--tenant", "other")
    assert (code, [line.split()[0] for line in replayed.splitlines()]) == (0, ["dddd-4"])
    assert ids(run("list")[1]) == ["aaaa-1", "abbb-2", "cccc-3"]


def test_mistakes_are_errors(run: Run) -> None:
    """Runs replay without ids, and with unknown, ambiguous and damaged dead letters.

    Without ids the exit code is 2, so that a short command cannot replay everything. The others print an error and
    return 1.
    """
    code, _, error = run("replay")
    assert (code, "no dead letter is selected" in error) == (2, True)
    for words, said in (
        (("show", "nope"), "there is no dead letter nope: see `audiotext dlq list --all`"),
        (("show", "a"), "aaaa-1, abbb-2 begin with it"),
        (("replay", "cccc"), "was not text"),
    ):
        code, _, error = run(*words)
        assert code == 1
        assert said in error
