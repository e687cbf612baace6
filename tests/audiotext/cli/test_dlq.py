"""`audiotext dlq` as a user meets it, on a log of its own."""

import json
from collections.abc import Callable

import pytest

from audiotext.cli.main import main
from redpanda import topics
from redpanda.client import EventProducer
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings
from tests.pipelines.runtime.test_dead_letters import letter

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(start_server: StartServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command against a log with three letters: a and b of transcribe, c of a record that was no text."""
    server = start_server("log")
    kafka = kafka_settings(server)
    topics.apply(kafka, embedded=True)
    for name, value in server.addresses.items():
        monkeypatch.setenv(name, value)
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
    """The ids in a list, in its order."""
    return [line.split()[0] for line in listed.splitlines()[1:]]


def test_list_show_replay(run: Run) -> None:
    """Lists, narrows the list, shows a letter, replays one by the beginning of its id and all of a stage, and lists
    again: what was replayed is gone from the list, not from the log, and is not replayed a second time."""
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


def test_mistakes_are_told(run: Run) -> None:
    """No letter named: exit code 2. None of that name, more than one, one that cannot be replayed: exit code 1; each
    with a line that says so. Replaying everything by mistake must not be possible by typing less."""
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
