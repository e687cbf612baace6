"""Entry point of the command line: finds the command, runs it and returns its exit code."""

import argparse
import importlib
import os
import pkgutil
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO, cast

from audiotext.cli import commands
from audiotext.cli.arguments import Parser, Run, add_command
from core import package
from core.errors import exit_code
from core.printable import PrintableStream

_BROKEN_PIPE = 128 + signal.SIGPIPE  # the exit code that shells report for other programs
_INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0: done. 1: failed. 2: wrong usage or settings. 130: Ctrl-C. 141: the reader of the output closed the pipe, for
    example `| head`; then nothing more is printed. An error that the user can fix is one line on stderr.
    """
    try:
        try:
            with _printable_output():
                return _run(parser().parse_args(argv))
        finally:
            sys.stdout.flush()  # finds a closed pipe here, where it can be caught, and not when Python exits
    except BrokenPipeError:
        if not _redirect_closed_pipes():
            raise
        return _BROKEN_PIPE


def parser() -> Parser:
    """Returns the parser of the whole command line. `args.run` is the function that runs the command."""
    top = Parser(
        prog="audiotext",
        description="Records, transcribes, summarizes and bills calls, and makes them searchable.",
        epilog="Settings are environment variables (AUDIOTEXT_…) or audiotext.toml: see `audiotext settings`.",
    )
    top.add_argument("--version", dest="show_version", action="store_true", help="print the version and exit")
    top.set_defaults(run=None)
    table = top.add_subparsers(title="commands", metavar="COMMAND")
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        module.add_arguments(add_command(table, found.name, module.HELP, getattr(module, "run", None)))
    return top


@contextmanager
def _printable_output() -> Iterator[None]:
    """Escapes control characters in everything that the command prints: ids and texts come from the internet."""
    stdout, stderr = PrintableStream(sys.stdout), PrintableStream(sys.stderr)
    with redirect_stdout(cast(TextIO, stdout)), redirect_stderr(cast(TextIO, stderr)):
        yield


def _run(args: argparse.Namespace) -> int:
    if args.show_version:
        return _print_version()
    if args.run is None:
        parser().print_help()
        return 0
    try:
        return cast(Run, args.run)(args)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"audiotext: {error}", file=sys.stderr)
        return code


def _print_version() -> int:
    print(f"audiotext {package.VERSION}")
    return 0


def _redirect_closed_pipes() -> bool:
    """Redirects stdout and stderr to /dev/null if their reader is gone. Returns True if there was such a stream."""
    closed = []
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream, 0)
        closed += [number for number, _ in poll.poll(0)]  # POLLERR: no reader
    for number in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return bool(closed)
