"""The command line: parses it, finds the settings, and hands over. Each command's code is imported when it is run."""

import argparse
import importlib
import importlib.util
import os
import pkgutil
import select
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from audiotext.stack.services import GROUPS, SERVICES, STAGES
from core.errors import exit_code
from schemas.media import Codec

_REPLAYED = ("media", "recording", "transcript", "summary", "embedding")

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 0 done, 1 it did not work, 2 it was asked wrongly. What a user can
    mend is one line on stderr; who has read enough (`| head`) is told nothing more."""
    try:
        try:
            return _run(parser().parse_args(argv))
        finally:
            sys.stdout.flush()  # or a pipe that is closed would be found when nobody can catch it any more
    except BrokenPipeError:
        if not _leave_closed_pipes():
            raise
        return _NOBODY_READS


_NOBODY_READS = 128 + signal.SIGPIPE  # as a shell tells it of other programs


def _leave_closed_pipes() -> bool:
    """Has what is still to be printed go nowhere, where nobody reads it. Whether there was such a stream."""
    closed = []
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream, 0)
        closed += [number for number, _ in poll.poll(0)]  # POLLERR: no reader
    for number in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return bool(closed)


def _run(args: argparse.Namespace) -> int:
    module, _, function = cast(str, args.run).partition(":")
    try:
        return cast(int, getattr(importlib.import_module(module), function)(args))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"audiotext: {error}", file=sys.stderr)
        return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like those of the commands."""

    def error(self, message: str) -> NoReturn:
        """Ends the command with exit code 2."""
        self.exit(2, f"audiotext: {message}; see `{self.prog} --help`\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line. `args.run` says, as "module:function", what runs a command."""
    top: argparse.ArgumentParser = _Parser(
        prog="audiotext",
        description="Carriers stream call audio in; recordings, transcripts, summaries, search and the bill come out.",
        epilog="Settings are environment variables (AUDIOTEXT_…) or audiotext.toml: see `audiotext settings`.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    up = _command(commands, "up", "run everything on this machine", "audiotext.cli.up:run")
    _stack_options(up)

    demo = _command(
        commands, "demo", "run everything, play two real calls, show what comes out", "audiotext.demo.main:main"
    )
    _stack_options(demo)
    demo.add_argument("--keep", action="store_true", help="leave everything running afterwards")
    demo.add_argument("--speed", type=_positive, default=4.0, metavar="N", help="play N times as fast (4)")

    call = _command(commands, "call", "play a WAV into a gateway as a carrier would", "audiotext.cli.call:run")
    call.add_argument("file", type=Path, metavar="FILE", help="mono or two-channel WAV (left the caller)")
    call.add_argument("--carrier", choices=_carriers(), default="twilio", help="whose protocol to speak (twilio)")
    call.add_argument("--codec", type=str.upper, choices=list(Codec), help="one the carrier sends (its usual one)")
    call.add_argument("--rate", type=int, metavar="HZ", help="samples per second, where the codec has a choice")
    call.add_argument("--speed", type=_positive, default=1.0, metavar="N", help="play N times as fast (1)")
    call.add_argument("--call-id", metavar="ID", help="the carrier's call id (made up)")
    call.add_argument("--from", dest="from_number", default="", metavar="N", help="the caller's number")
    call.add_argument("--to", dest="to_number", default="", metavar="N", help="the number that is called")
    call.add_argument("--url", metavar="WS", help="the gateway's media socket (this machine's)")
    call.add_argument("--jitter", type=int, default=0, metavar="MS", help="each frame is late by up to MS, at random")
    call.add_argument("--loss", type=_probability, default=0.0, metavar="P", help="probability that a frame is lost")
    call.add_argument("--duplicate", type=_probability, default=0.0, metavar="P", help="… that it is sent twice")
    call.add_argument("--cut-at", type=int, metavar="MS", help="cut the connection after MS of audio")
    call.add_argument("--seed", type=int, default=0, metavar="N", help="of what is random: same seed, same call (0)")
    _running_stack_option(call)

    service = _command(commands, "run", "run one service alone", "audiotext.cli.service:run")
    service.add_argument("service", choices=list(SERVICES), metavar="SERVICE", help=", ".join(SERVICES))

    _topics_commands(_group(commands, "topics", "the log's topics as redpanda/topics.yaml has them"))

    schemas = _command(commands, "schemas", "write JSON Schemas of all that is on the log", "audiotext.cli.schemas:run")
    schemas.add_argument("folder", type=Path, metavar="DIR", help="where to; made if it is not there")

    keys = _group(commands, "keys", "keys to the API")
    create = _command(keys, "create", "make a key and print it, this once", "audiotext.cli.keys:create")
    create.add_argument("--tenant", type=_tenant, default="default", help="whose calls it opens (default)")
    create.add_argument("--name", default="", help="what it is for")
    revoke = _command(keys, "revoke", "make a key useless", "audiotext.cli.keys:revoke")
    revoke.add_argument("key_id", metavar="ID", help="as `audiotext keys list` shows it, or its beginning")
    which = _command(keys, "list", "show all keys", "audiotext.cli.keys:show")
    _json_option(which)
    for command in (create, revoke, which):
        _running_stack_option(command)

    _letter_commands(_group(commands, "dlq", "calls that a stage gave up on (dead letters)"))
    _replay_commands(_group(commands, "replay", "process calls again from any stage on"))
    _version_commands(_group(commands, "versions", "what different settings made of a call"))
    _erase_command(commands)
    _upkeep(commands)
    settings = _command(
        commands, "settings", "show every setting, its value and what it means", "audiotext.cli.settings:run"
    )
    _json_option(settings)
    return top


def _topics_commands(topics: "_Commands") -> None:
    apply = _command(topics, "apply", "create what is missing", "audiotext.cli.topics:apply")
    check = _command(topics, "check", "say where the log differs", "audiotext.cli.topics:check")
    _json_option(check)
    for command in (apply, check):
        _running_stack_option(command)

    group = _command(topics, "group", "show where a stage stands on the log, or move it", "audiotext.cli.topics:groups")
    group.add_argument("group", metavar="GROUP", help=", ".join(GROUPS) + ", or one of yours")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--since", type=_position_ms, metavar="T", help="put it there: start, or 30m, 12h, 7d ago, or a UTC time"
    )
    where.add_argument("--like", metavar="OTHER", help="put it where the other group stands")
    _json_option(group)
    _running_stack_option(group)


def _letter_commands(letters: "_Commands") -> None:
    which = _command(letters, "list", "show the letters that nobody has replayed", "audiotext.cli.dlq:show_all")
    which.add_argument("--all", action="store_true", help="those that were replayed, too")
    _json_option(which)
    one = _command(letters, "show", "show one letter whole, its payload included", "audiotext.cli.dlq:show")
    one.add_argument("letter", metavar="ID", help="as `audiotext dlq list` shows it, or its beginning")
    again = _command(letters, "replay", "give letters back to their stage", "audiotext.cli.dlq:replay")
    again.add_argument("letters", nargs="*", metavar="ID", help="which; or all open ones that the filters leave")
    for command in (which, again):
        command.add_argument("--stage", choices=STAGES, metavar="S", help=f"only this stage's: {', '.join(STAGES)}")
        command.add_argument("--call", type=_id, metavar="ID", help="only this call's")
        command.add_argument("--since", type=_since_ms, metavar="T", help="not older than 30m, 12h, 7d, or a UTC time")
    for command in (which, one, again):
        _running_stack_option(command)


def _replay_commands(replays: "_Commands") -> None:
    start = _command(replays, "start", "process calls again, from the stage on", "audiotext.cli.replay:start")
    start.add_argument("--stage", required=True, choices=_REPLAYED, help="what to start from: " + ", ".join(_REPLAYED))
    start.add_argument("--calls", nargs="+", metavar="ID", help="these calls, or those that pass:")
    start.add_argument("--tenant", type=_tenant, metavar="T", help="only this tenant's calls")
    start.add_argument("--from", dest="since", type=_since_ms, metavar="T", help="started since 12h, 30d or a UTC time")
    start.add_argument("--to", dest="until", type=_since_ms, metavar="T", help="started before")
    start.add_argument("--failed", action="store_true", help="only calls that failed")
    start.add_argument("--query", metavar="TEXT", help="only calls whose id or numbers contain this")
    start.add_argument("--all", action="store_true", help="every call there is")
    start.add_argument("--provider", help="another provider for the first engine that is asked again")
    start.add_argument("--model", help="another model of it")
    start.add_argument("--language", help="the language spoken (ISO 639-1), for transcribing")
    start.add_argument("--prompt", help="another prompt for the summary")
    start.add_argument(
        "--keep-current", action="store_true", help="leave the versions that count as they are; the new ones lie beside"
    )
    start.add_argument("--dry-run", action="store_true", help="only say how many calls, minutes and how much money")
    start.add_argument("--wait", action="store_true", help="show its progress until it is through")
    which = _command(replays, "list", "show replays, newest first", "audiotext.cli.replay:show_all")
    status = _command(replays, "status", "show how far a replay is", "audiotext.cli.replay:status")
    status.add_argument("--wait", action="store_true", help="… until it is through")
    stop = _command(replays, "stop", "stop a replay; what is under way is finished", "audiotext.cli.replay:stop")
    go_on = _command(replays, "resume", "go on with what is not done yet", "audiotext.cli.replay:resume")
    for command in (status, stop, go_on):
        command.add_argument("replay", metavar="ID", help="as `audiotext replay list` shows it, or its beginning")
    for command in (which, status):
        _json_option(command)
    for command in (start, which, status, stop, go_on):
        _running_stack_option(command)


def _upkeep(commands: "_Commands") -> None:
    migrate = _command(
        commands, "migrate", "bring ClickHouse, Qdrant and the bucket up to date", "audiotext.cli.migrate:run"
    )
    migrate.add_argument("--check", action="store_true", help="only say what would be done; exit code 1 if anything")
    _running_stack_option(migrate)
    idle = _command(
        commands, "idle", "wait until the gateway on this machine has no live stream", "audiotext.cli.idle:run"
    )
    idle.add_argument("--timeout", type=_positive, default=3600.0, metavar="S", help="wait no longer than S (3600)")
    idle.add_argument("--settle", type=_positive, default=10.0, metavar="S", help="nothing live for so long (10)")
    _running_stack_option(idle)
    doctor = _command(
        commands, "doctor", "look at every configured system and say what to do", "audiotext.cli.doctor:run"
    )
    _json_option(doctor)
    _running_stack_option(doctor)


def _version_commands(versions: "_Commands") -> None:
    which = _command(versions, "list", "show a call's versions", "audiotext.cli.versions:show_all")
    differ = _command(
        versions, "compare", "show how two transcripts of a part differ", "audiotext.cli.versions:compare_two"
    )
    use = _command(
        versions, "use", "make a version count, or those of many calls at once", "audiotext.cli.versions:use"
    )
    for command in (which, differ):
        command.add_argument("call", metavar="CALL", help="the call's id, or its beginning")
    use.add_argument("call", nargs="?", metavar="CALL", help="the call's id, or its beginning")
    for command in (which, differ, use):
        _running_stack_option(command)
    differ.add_argument("--part", type=int, default=1, metavar="N", help="part of the call (1)")
    differ.add_argument("--before", metavar="ID", help="a version (the oldest)")
    differ.add_argument("--after", metavar="ID", help="a version (the one that counts)")
    use.add_argument("version", nargs="?", metavar="ID", help="as `versions list` has it, or its beginning")
    use.add_argument("--replay", metavar="ID", help="of all its calls, the versions that this replay made or found")
    use.add_argument(
        "--before",
        type=_time_or_replay,
        metavar="T",
        help="of all calls that have changed since, the versions that counted before: 30m, 12h, 7d ago, a UTC time, "
        "or a replay's id (before that replay, its calls only)",
    )
    use.add_argument("--calls", nargs="+", metavar="ID", help="… of these calls only")
    use.add_argument("--tenant", type=_tenant, metavar="T", help="… of this tenant's calls only")
    use.add_argument("--from", dest="since", type=_since_ms, metavar="T", help="… of calls started since only")
    use.add_argument("--to", dest="until", type=_since_ms, metavar="T", help="… of calls started before only")
    use.add_argument("--query", metavar="TEXT", help="… of calls whose id or numbers contain this only")
    use.add_argument("--dry-run", action="store_true", help="only say how many calls would be switched")
    _json_option(which)


def _erase_command(commands: "_Commands") -> None:
    erase = _command(commands, "erase", "erase calls: all but their lines of the bill", "audiotext.cli.erase:run")
    erase.add_argument("calls", type=_id, nargs="+", metavar="ID", help="call ids")
    erase.add_argument(
        "--tenant", type=_tenant, metavar="T", help="only this tenant's, should two have a call of one id"
    )
    erase.add_argument("--yes", action="store_true", help="do not ask on a terminal whether to erase them")
    _running_stack_option(erase)


def _command(commands: "_Commands", name: str, text: str, run: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    command.set_defaults(run=run)
    return command


def _group(commands: "_Commands", name: str, text: str) -> "_Commands":
    group: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _stack_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-dir", type=Path, metavar="D", help="where everything is kept (data)")
    command.add_argument("--port", type=_port, metavar="P", help="where the gateway listens (8080)")


def _json_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON array of objects instead of the list")


def _running_stack_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-dir", type=Path, metavar="D", help="talk to the stack that `audiotext up` runs on that directory (data)"
    )


def _tenant(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a tenant has a name")
    return text


def _id(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty id names nothing")
    return text


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None


def _probability(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def _carriers() -> list[str]:
    """By their files: importing them would make every command wait for what only a call needs."""
    found = importlib.util.find_spec("gateway.carriers")
    places = found.submodule_search_locations if found else None
    return sorted(module.name for module in pkgutil.iter_modules(places))


def _since_ms(text: str) -> int:
    """A point in time, ms since the epoch: how long ago (30m, 12h, 7d) or ISO 8601, UTC unless it says otherwise."""
    unit = {"m": 60, "h": 3_600, "d": 86_400}.get(text[-1:])
    if unit and text[:-1].isdigit():
        return round((time.time() - int(text[:-1]) * unit) * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is neither like 30m, 12h, 7d nor a time like 2026-11-22T10:00"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _time_or_replay(text: str) -> int | str:
    """As `_since_ms`; a replay's id is left as it is."""
    return text if text.startswith("rp-") else _since_ms(text)


def _position_ms(text: str) -> int:
    """As `_since_ms`; `start` is 0."""
    return 0 if text == "start" else _since_ms(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 1 and 65535")
    return int(text)
