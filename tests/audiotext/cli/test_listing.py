"""Lists of commands: complete ids in a pipe and on a terminal of 80 columns, complete JSON, ids by their beginning."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import uuid
from collections.abc import Callable

import pytest

from api.auth.api_keys import create_key, list_keys
from audiotext.cli import listing, main
from audiotext.stack.environment import to_variables
from core.errors import UserError
from core.settings import ClickHouseSettings, KafkaSettings, S3Settings, Settings
from redpanda.client import EventProducer
from schemas.events import ObjectRef, ReplayCommand, StageFailed
from schemas.ids import uuid_of
from schemas.topics import Topic
from sinks.clickhouse.replay_queries import ReplayStore

ERROR = "the provider answered 400: " + "this audio cannot be transcribed because its codec is not known " * 4
COLUMNS = 80

Command = tuple[str, ...]


@pytest.fixture
def settings(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, s3: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Returns settings of real stores and sets them in the environment, for commands in this process and in others."""
    made = Settings(kafka=kafka, clickhouse=clickhouse, s3=s3)
    for name, value in to_variables(made).items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def listed(settings: Settings) -> dict[Command, str]:
    """Creates a key, a dead letter with a long error and a replay. Returns their ids by command."""
    tenant = f"tenant-{uuid.uuid4().hex}"
    create_key(settings, tenant, "for the analyst's notebook in the office in Bremen")
    key = next(key for key in list_keys(settings) if key.tenant == tenant)
    call_id = f"CA{uuid.uuid4().hex}"
    letter_id = str(uuid.uuid4())
    letter = StageFailed(
        event_id=letter_id,
        call_id=call_id,
        tenant=tenant,
        occurred_at_ms=1_770_000_000_000,
        stage="transcribe",
        error=ERROR,
        error_class="permanent",
        attempts=3,
        origin_topic=Topic.RECORDING_READY,
        origin_partition=0,
        origin_offset=0,
        payload="{}",
    )
    EventProducer(settings.kafka).send(Topic.DEAD_LETTERS, [letter])
    replay_id = f"rp-{uuid.uuid4()}"
    ReplayStore(settings.clickhouse).put(
        ReplayCommand(
            event_id=uuid_of(replay_id),
            call_id=replay_id,
            replay_id=replay_id,
            tenant=tenant,
            occurred_at_ms=1_770_000_000_000,
            action="start",
            stage="recording",
            plan=ObjectRef(key="plan", sha256="0" * 64, size=1),
            parts=1,
            duration_ms=60_000,
        )
    )
    return {
        ("keys", "list"): key.id,
        ("dlq", "list", "--call", call_id): letter_id,
        ("replay", "list"): replay_id,
    }


def in_a_pipe(command: Command) -> str:
    """Returns the output of a command in a pipe, while COLUMNS is 80, as in many shells."""
    environment = os.environ | {"COLUMNS": str(COLUMNS)}
    run = subprocess.run(
        (sys.executable, "-m", "audiotext", *command), capture_output=True, text=True, env=environment, check=True
    )
    return run.stdout


def on_a_terminal(command: Command) -> str:
    """Returns the output of a command on a pseudo terminal of 80 columns."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    with subprocess.Popen(
        (sys.executable, "-m", "audiotext", *command), stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ) as process:
        os.close(terminal)
        read = b""
        try:
            while chunk := os.read(main, 65_536):
                read += chunk
        except OSError:  # EIO: nobody has the terminal's other end any more
            pass
        finally:
            os.close(main)
    assert process.returncode == 0, read
    return read.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("run", [in_a_pipe, on_a_terminal])
def test_ids_are_complete(listed: dict[Command, str], run: Callable[[Command], str]) -> None:
    """Lists keys, dead letters and replays in a pipe and on a terminal of 80 columns.

    Ids and errors are complete, so that they can be copied. A failure means that lists cut or break them.
    """
    for command, found in listed.items():
        output = run(command)
        assert found in output, output
        assert "…" not in output
    errors = run(next(command for command in listed if command[0] == "dlq"))
    assert " ".join(ERROR.split()) in " ".join(errors.split())  # not cut either


def test_every_list_has_json(listed: dict[Command, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Runs the lists with --json: stdout is one JSON array with the ids, and it contains no hash of a key."""
    for command, found in listed.items():
        assert main.main([*command, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert found in [row["id"] for row in rows]
        assert not any("hash" in row for row in rows if command[0] == "keys")


def test_every_listing_command_offers_json() -> None:
    """Parses each command that prints a list with --json. A failure names a list without JSON."""
    for words in (
        ["keys", "list"],
        ["dlq", "list"],
        ["versions", "list", "CA1"],
        ["replay", "list"],
        ["replay", "status", "rp-1"],
        ["topics", "check"],
        ["topics", "group", "recorder"],
        ["settings"],
        ["doctor"],
    ):
        assert main.parser().parse_args([*words, "--json"]).json is True


def test_the_beginning_of_an_id_is_enough(listed: dict[Command, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Names a key, a dead letter and a replay by the beginnings of their ids, with an ellipsis as in a cut list."""
    key, letter, replay = listed.values()
    assert main.main(["keys", "revoke", f"{key[:20]}…"]) == 0
    assert f"{key} is revoked" in capsys.readouterr().out
    assert main.main(["dlq", "show", f"{letter[:20]}..."]) == 0
    assert json.loads(capsys.readouterr().out)["event_id"] == letter
    assert main.main(["replay", "status", replay[:20]]) == 0
    assert capsys.readouterr().out.startswith(f"{replay}: ")
    for command in (["keys", "revoke"], ["dlq", "show"], ["replay", "status"]):
        assert main.main([*command, ""]) == 1  # not everything, not the first


def test_an_ambiguous_beginning_names_the_candidates() -> None:
    """Looks up ids by their beginnings.

    A complete id wins over longer ones that begin with it. An ambiguous beginning and a missing id are errors that name
    the fix.
    """
    ids = ["abc", "abcd", "abd", "b"]
    assert listing.id_of("abc", ids, "key", "audiotext keys list") == "abc"
    assert listing.id_of("abcd…", ids, "key", "audiotext keys list") == "abcd"
    with pytest.raises(UserError, match="key ab is ambiguous: abc, abcd, abd begin with it; give more"):
        listing.id_of("ab", ids, "key", "audiotext keys list")
    with pytest.raises(UserError, match="there is no key x: see `audiotext keys list`"):
        listing.id_of("x", ids, "key", "audiotext keys list")
    many = [f"a{number}" for number in range(30)]
    with pytest.raises(UserError, match="and 10 more begin with it; give more"):
        listing.id_of("a", many, "key", "audiotext keys list")


def test_a_narrow_list_breaks_between_words_only() -> None:
    """Formats a row that is wider than the terminal.

    The id is on its own line, and each other cell follows its name. Only a line with a single long word is wider than
    the terminal.
    """
    found = listing.lines(("", "id", "tenant", "error"), [("*", "x" * 36, "", "some words that do not fit " * 4)], 60)
    assert found[0] == "*  " + "x" * 36
    assert "tenant" not in "".join(found)  # it is empty
    assert max(map(len, found)) <= 60
    assert " ".join(" ".join(found).split()).endswith("error: " + ("some words that do not fit " * 4).strip())
    assert "y" * 90 in listing.lines(("id",), [("y" * 90,)], 60)
    assert listing.lines(("id", "a"), [("1", "2")], 60) == ["id  a", "1   2"]
