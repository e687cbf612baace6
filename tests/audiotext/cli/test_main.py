"""The command line: help, one-line errors, exit codes, and the commands that need no stack."""

import io
import json
import os
import socket
import subprocess
import sys
import uuid
from contextlib import redirect_stderr, suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from audiotext.cli import commands, main
from audiotext.cli.terminal import Terminal
from audiotext.stack import services
from audiotext.stack.datadir import DataDir, RunningStack
from audiotext.stack.stack import service_commands
from core import package
from core.settings import KafkaSettings, descriptions, load, variable_names
from gateway.carriers import load_carriers
from redpanda.client import connection_config, producer_config
from redpanda.group_offsets import GroupHasMembersError
from schemas.topics import Topic
from tests.conftest import StartServer, kafka_settings
from tests.support import log_variables

HEAVY = {"aiohttp", "confluent_kafka", "clickhouse_connect", "qdrant_client", "numpy", "pydantic", "rich", "minio"}


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `audiotext --help` and `audiotext` without arguments: both list every command, and the exit code is 0.

    At 80 columns each command is on a line of its own.

    The commands are the modules in `audiotext/cli/commands`. A failure means that a command is not found there.
    """
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    names = [path.stem for path in Path(commands.__path__[0]).glob("*.py") if path.stem != "__init__"]
    assert {"call", "demo", "dlq", "doctor", "erase", "keys", "replay", "run", "topics", "up"} <= set(names)
    assert all(f"    {name} " in text for name in names)
    listed = text.partition("commands:")[2].partition("Settings")[0].split("\n")
    assert len([line for line in listed if line.strip()]) == len(names) + 1  # one line each, and COMMAND
    assert main.main([]) == 0
    assert capsys.readouterr().out == text


def test_a_command_is_one_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Adds a folder with one new module to the commands: the command runs with its argument and returns its exit code.

    A failure means that a new command needs changes in other files too.
    """
    (tmp_path / "greet.py").write_text(
        "HELP = 'greet'\n"
        "def add_arguments(parser): parser.add_argument('--code', type=int)\n"
        "def run(args): return args.code\n"
    )
    monkeypatch.setattr(commands, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "audiotext.cli.commands.greet", raising=False)
    assert main.main(["greet", "--code", "7"]) == 7


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs `audiotext --version`: it prints the version of the package."""
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"audiotext {package.VERSION}\n"


@pytest.mark.server
@pytest.mark.parametrize("words", [["--help"], ["dlq", "--help"], ["call", "--help"], ["replay", "start", "--help"]])
def test_help_imports_no_heavy_library(words: list[str]) -> None:
    """Runs the help of the program and of commands in a process and reads which modules it has imported.

    A failure means that the help, and every other command, waits seconds for libraries that it does not need.
    """
    source = (
        "import sys, audiotext.cli.main as c\n"
        "try: c.main(sys.argv[1:])\n"
        "finally: print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    command = (sys.executable, "-c", source, *words)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage: audiotext" in done.stdout
    assert HEAVY.isdisjoint(done.stderr.split())


def test_every_setting_is_explained(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has a description, and `audiotext settings` lists every setting but never a secret.

    A failure names the settings without an attribute docstring.
    """
    assert [name for name, text in descriptions().items() if not text.endswith(".")] == []
    monkeypatch.setenv("AUDIOTEXT_ADMIN_KEY", "very-secret")
    monkeypatch.setenv("AUDIOTEXT_TWILIO__ACCOUNTS", '{"AC1": {"auth_token": "very-secret-too"}}')
    monkeypatch.setenv("AUDIOTEXT_STT__MODEL", "tiny.en")
    assert main.main(["settings"]) == 0
    text = capsys.readouterr().out
    assert "very-secret" not in text
    assert "tiny.en*" in text
    assert all(name in text for name in variable_names())


def test_settings_fit_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints the settings on a terminal of 80 columns and into a file.

    On the terminal no line is wider than 80 characters, and each setting shows name, value, default and meaning. In a
    file each value is on one line. A failure means that the list is hard to read, or that scripts cannot parse it.
    """
    monkeypatch.setenv("AUDIOTEXT_STT__MODEL", "tiny.en")
    monkeypatch.setenv("COLUMNS", "80")
    assert main.main(["settings"]) == 0
    assert "169.254.0.0/16, ::1/128" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main.main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    at = lines.index("AUDIOTEXT_STT__MODEL  tiny.en*  (base)")
    assert lines[at + 1].startswith("    ")


@pytest.mark.server
def test_a_closed_pipe_ends_a_command_silently() -> None:
    """Closes the pipe before the command prints, as `| head` does.

    The command prints no stack trace and exits with 141, the code that shells report for SIGPIPE.
    """
    command = (sys.executable, "-m", "audiotext", "settings")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


def test_a_stack_survives_a_closed_output_pipe() -> None:
    """Prints two lines into a pipe without a reader, as in `audiotext up 2>&1 | head`.

    A failure means that the thread of the supervisor ends, and with it all services.
    """
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as nobody:  # which the file finds when it is closed
        terminal = Terminal(file=nobody)
        try:
            terminal.print("one")
            terminal.print("two")
        except (SystemExit, BrokenPipeError):
            pytest.fail("the thread that prints would end")


def test_another_broken_pipe_is_a_defect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Raises BrokenPipeError for a pipe that is not the output, whose reader is still there.

    The error must not be hidden as a reader that has left.
    """

    def broken(_name: str) -> services.Run:
        raise BrokenPipeError

    monkeypatch.setattr("audiotext.cli.commands.run.entry_point", broken)
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        monkeypatch.setattr("sys.stderr", file)
        with pytest.raises(BrokenPipeError):
            main.main(["run", "usage"])


@pytest.mark.parametrize(
    ("variables", "arguments", "code", "words"),
    [
        ({"AUDIOTEXT_GATEWAY__PORT": "x"}, ["topics", "check"], 2, "AUDIOTEXT_GATEWAY__PORT"),
        ({"AUDIOTEXT_RETRY__DELAYS_S": "[1,"}, ["topics", "check"], 2, "AUDIOTEXT_RETRY__DELAYS_S is not valid JSON"),
        ({"AUDIOTEXT_TWILIO__ACCOUNTS": "{'a'}"}, ["topics", "check"], 2, 'an object, like {"name": …}'),
        ({"AUDIOTEXT_RETRY": "{"}, ["topics", "check"], 2, "unknown setting AUDIOTEXT_RETRY"),
        ({"AUDIOTEXT_NONSENSE": "1"}, ["topics", "check"], 2, "unknown setting AUDIOTEXT_NONSENSE"),
        ({}, ["topics", "check"], 1, "AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"),
        ({}, ["topics", "check"], 1, "no running stack found in data: run `audiotext up`, name the directory"),
        ({}, ["keys", "list"], 1, "no running stack found in data: run `audiotext up`, name the directory"),
        ({}, ["dlq", "list"], 1, "with --data-dir"),
        ({}, ["erase", "CA1"], 1, "with --data-dir"),
        ({}, ["migrate"], 1, "with --data-dir"),
        ({}, ["replay", "list"], 1, "with --data-dir"),
        ({}, ["versions", "list", "CA1"], 1, "with --data-dir"),
        ({"AUDIOTEXT_GATEWAY__PORT": "9"}, ["idle"], 1, "with --data-dir"),
        ({"AUDIOTEXT_S3__ENDPOINT": "http://x"}, ["keys", "list"], 1, "AUDIOTEXT_CLICKHOUSE__DSN"),
        ({}, ["topics", "check", "--data-dir", "nowhere"], 1, "audiotext up --data-dir nowhere"),
        ({}, ["call", "no-such.wav"], 2, "no-such.wav: there is no such file"),
        ({}, ["call", __file__], 1, "AUDIOTEXT_TWILIO__AUTH_TOKEN"),
        ({}, ["call", __file__], 1, "with --data-dir"),
        ({}, ["call", __file__, "--carrier", "telnyx"], 1, "AUDIOTEXT_TELNYX__STREAM_TOKEN"),
        ({}, ["call", __file__, "--carrier", "vonage"], 1, "AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET"),
        ({}, ["call", __file__, "--carrier", "audiosocket"], 1, "AUDIOTEXT_AUDIOSOCKET__PORT"),
    ],
)
def test_a_users_mistake_is_one_line(  # noqa: PLR0917 - pytest passes them by name
    variables: dict[str, str],
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs commands with invalid settings and arguments.

    Each prints one line that names the fix, without a stack trace, and returns its exit code. The line does not mention
    audiotext.toml if a variable is wrong.
    """
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main.main(arguments) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("audiotext: ")
    assert words in error
    assert "audiotext.toml" not in error


def test_control_characters_in_the_output_are_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Makes a command print text that sets a terminal's title.

    The output must show an escape instead: call ids and texts come from outside, and a terminal obeys them.
    """
    monkeypatch.setenv("AUDIOTEXT_\x1b]0;PWNED\x07", "1")
    assert main.main(["topics", "check"]) == 2
    error = capsys.readouterr().err
    assert "AUDIOTEXT_\\u001b]0;PWNED\\u0007" in error
    assert error.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dlq", "list", "--stage", "transcriber"], "transcribe, summarize"),
        (["dlq", "replay", "--stage", ""], "transcribe, summarize"),
        (["keys", "create", "--tenant="], "the tenants name is empty"),
        (["erase", "CA1", "--tenant", " "], "the tenants name is empty"),
        (["up", "--port", "abc"], "abc is not a number between 1 and 65535"),
        (["demo", "--speed", "fast"], "fast is not a number"),
        (["keys", "lst"], "invalid choice: lst"),
    ],
)
def test_invalid_arguments_are_usage_errors(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs commands with unknown stages, empty names and values that are not numbers.

    Each prints one line with the valid values and the help command, and exits with 2. A failure could show an empty
    list for a misspelt stage, which looks like a stage without dead letters.
    """
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert words in error.replace("'", "")
    assert (error.count("\n"), error.startswith("audiotext: ")) == (1, True)
    assert f"see `audiotext {arguments[0]}" in error
    assert error.endswith(" --help`\n")


def test_a_taken_directory_or_port_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Starts a stack on the data directory of another stack, and on the port of another program.

    Both print one line and return 2, so that scripts need one rule.
    """
    owner = DataDir(tmp_path)
    assert main.main(["up", "--data-dir", str(tmp_path)]) == 2
    owner.release()
    assert "a stack already runs on" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main.main(["up", "--data-dir", str(tmp_path), "--port", port]) == 2
    assert f"port {port} of the gateway is in use" in capsys.readouterr().err


@pytest.mark.server
def test_up_prints_a_line_before_it_imports_libraries() -> None:
    """Runs `audiotext up` in a process that ends at its first output, and reads which modules it has imported.

    A failure means that the terminal stays empty for a second or more, as if nothing happened.
    """
    source = (
        "import builtins, sys\n"
        "from audiotext.cli.main import main\n"
        "def first(text, **_where):\n"
        "    sys.stderr.write(text + '\\n' + '\\n'.join(sys.modules))\n"
        "    raise SystemExit\n"
        "builtins.print = first\n"
        "main(['up'])\n"
    )
    done = subprocess.run((sys.executable, "-c", source), stderr=subprocess.PIPE, text=True, check=True)
    line, *modules = done.stderr.split("\n")
    assert line == "Starting AudioText ..."
    assert HEAVY.isdisjoint(modules)


def test_an_unknown_group_is_an_error(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests the positions of a group that does not exist.

    The error names the valid groups. A failure would print "0 partitions", as for a stage that has not begun.
    """
    for name, value in log_variables.to_variables(kafka).items():
        monkeypatch.setenv(name, value)
    said = io.StringIO()
    with redirect_stderr(said):
        assert main.main(["topics", "group", "transcriber"]) == 1
    assert "there is no group transcriber on this log; AudioText's are recorder, transcribe," in said.getvalue()


def test_a_defect_keeps_its_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises an unexpected error in a command: it is not printed as an error of the user."""

    def broken(_name: str) -> services.Run:
        raise RuntimeError("a bug")

    monkeypatch.setattr("audiotext.cli.commands.run.entry_point", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main.main(["run", "usage"])


def test_a_group_is_shown_with_end_and_lag(
    kafka: KafkaSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads three of five records with a group of its own: the command shows position, end and lag, also as JSON."""
    for name, value in log_variables.to_variables(kafka).items():
        monkeypatch.setenv(name, value)
    group, topic = f"group-{uuid.uuid4().hex[:8]}", Topic.PROVIDER_NOTICES.value
    producer = Producer(producer_config(kafka))
    for _ in range(5):
        producer.produce(topic, b"{}", "key", 0)
    assert producer.flush(30) == 0
    consumer = Consumer(connection_config(kafka) | {"group.id": group})
    end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
    consumer.commit(offsets=[TopicPartition(topic, 0, end - 2)], asynchronous=False)
    consumer.close()

    assert main.main(["topics", "group", group, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == {"topic": topic, "partition": 0, "position": end - 2, "end": end, "lag": 2}
    assert main.main(["topics", "group", group]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["topic", "partition", "position", "end", "lag"]
    assert lines[1].split() == [topic, "0", str(end - 2), str(end), "2"]
    lag = sum(row["lag"] for row in rows)
    assert lines[-1] == f"group {group} has a lag of {lag} records on {len(rows)} partitions"


@pytest.mark.parametrize(
    ("group", "stack", "advice"),
    [
        ("transcribe", True, "start it with `--without transcriber`"),
        ("transcribe", False, "`docker compose stop transcriber`"),
        ("another", False, "Stop the programs that read with this group"),
    ],
)
def test_a_group_with_members_is_not_moved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], group: str, stack: bool, advice: str
) -> None:
    """Moves a group whose service runs: the error names the service and says how to stop it."""

    def refuse(*_arguments: object, **_named: object) -> None:
        raise GroupHasMembersError(f"group {group} still has 1 member")

    running = RunningStack({}, []) if stack else None
    monkeypatch.setattr("redpanda.group_offsets.move", refuse)
    monkeypatch.setattr("audiotext.cli.connection.settings_for", lambda _: (load(), running))
    assert main.main(["topics", "group", group, "--since", "7d"]) == 1
    said = capsys.readouterr().err
    assert f"group {group} still has 1 member. " in said
    assert advice in said


def test_services_can_be_left_out() -> None:
    """Parses `up --without`: the service is not among those that start, and an unknown one is refused."""
    args = main.parser().parse_args(["up", "--without", "analytics", "--without", "usage"])
    commands = service_commands(without=args.without)
    assert set(services.SERVICES) - set(commands) == {"analytics", "usage"}
    with pytest.raises(SystemExit):
        main.parser().parse_args(["up", "--without", "gateway"])


def test_topics_are_applied_and_checked(start_server: StartServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs `topics check` and `topics apply` on an empty log, as an operator does with Redpanda."""
    kafka: KafkaSettings = kafka_settings(start_server("log"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in log_variables.to_variables(kafka).items():
            patch.setenv(name, value)
        assert main.main(["topics", "check"]) == 1
        assert "call.media: missing" in capsys.readouterr().out
        assert main.main(["topics", "apply"]) == 0
        assert "created call.media with 32 partitions" in capsys.readouterr().out
        assert main.main(["topics", "check"]) == 0
        assert "match redpanda/topics.yaml" in capsys.readouterr().out


def test_client_commands_find_the_stack_of_a_directory(
    tmp_path: Path, kafka: KafkaSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs a command with only `--data-dir`, while a stack is published on that directory.

    The command finds the addresses and secrets of the stack there. A failure means that users must set them by hand.
    """
    monkeypatch.setattr(os, "environ", dict(os.environ))  # the command adds to it
    owner = DataDir(tmp_path)
    owner.publish(RunningStack(log_variables.to_variables(kafka), ["log"]))
    assert main.main(["topics", "check", "--data-dir", str(tmp_path)]) == 0
    assert "match redpanda/topics.yaml" in capsys.readouterr().out
    owner.release()


def test_call_accepts_exactly_the_carriers() -> None:
    """Parses `call --carrier` with every carrier of the gateway and with names that are not carriers.

    A failure means that a carrier cannot be simulated, or that a helper module is offered as a carrier.
    """
    for name in load_carriers():
        assert main.parser().parse_args(["call", "a.wav", "--carrier", name, "--loss", "0.1"]).carrier == name
    for name in ("pigeon", "base", "common"):
        with pytest.raises(SystemExit):
            main.parser().parse_args(["call", "a.wav", "--carrier", name])
