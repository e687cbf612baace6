"""Arguments that several commands share, and the types of their values. Imports nothing heavy."""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction["Parser"]

Run = Callable[[argparse.Namespace], int]

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line, like those of the commands."""

    def error(self, message: str) -> NoReturn:
        """Prints the error and the help command, and exits with code 2."""
        self.exit(2, f"audiotext: {message}; see `{self.prog} --help`\n")


def subcommands(parser: Parser) -> "Subcommands":
    """Returns the place to which `add_command` adds the subcommands of a command. One of them is required."""
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def add_command(commands: "Subcommands", name: str, text: str, run: Run | None = None) -> Parser:
    """Adds a command and returns its parser.

    text: one line for the help page, without a full stop. run: runs the command and returns the exit code; None if the
    command has subcommands.
    """
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def add_json_option(parser: Parser) -> None:
    """Adds `--json` to a command that prints a list."""
    parser.add_argument("--json", action="store_true", help="print one JSON array of objects instead of the list")


def add_running_stack_option(parser: Parser) -> None:
    """Adds `--data-dir` to a command that connects to a running stack."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="D",
        help="use the stack that `audiotext up` runs on this directory (data)",
    )


def add_stack_options(parser: Parser) -> None:
    """Adds `--data-dir` and `--port` to a command that starts a stack."""
    parser.add_argument("--data-dir", type=Path, metavar="D", help="directory for all data (data)")
    parser.add_argument("--port", type=port, metavar="P", help="port of the gateway (8080)")


def tenant(text: str) -> str:
    """Returns a tenant's name. Raises ArgumentTypeError if it is empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the tenant's name is empty")
    return text


def identifier(text: str) -> str:
    """Returns an id. Raises ArgumentTypeError if it is empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the id is empty")
    return text


def number(text: str) -> float:
    """Returns a number. Raises ArgumentTypeError."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None


def positive(text: str) -> float:
    """Returns a finite number above 0. Raises ArgumentTypeError."""
    value = number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def probability(text: str) -> float:
    """Returns a number from 0 to 1. Raises ArgumentTypeError."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def port(text: str) -> int:
    """Returns a port number. Raises ArgumentTypeError."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 1 and 65535")
    return int(text)


def time_ms(text: str) -> int:
    """Returns a point in time in ms since the epoch.

    text: an age (30m, 12h, 7d) or ISO 8601, which is UTC unless it has an offset. Raises ArgumentTypeError.
    """
    unit = _SECONDS.get(text[-1:])
    if unit and text[:-1].isdigit():
        return round((time.time() - int(text[:-1]) * unit) * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is neither an age like 30m, 12h, 7d nor a time like 2026-11-22T10:00"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
