"""Command `audiotext up`: runs the whole stack on this machine."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from audiotext.cli.arguments import Parser, add_stack_options
from audiotext.stack.services import SERVICES

if TYPE_CHECKING:
    from audiotext.stack.stack import Stack
    from core.settings import Settings

HELP = "run everything on this machine"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    add_stack_options(parser)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=[name for name in SERVICES if name not in ("gateway", "api")],
        metavar="SERVICE",
        help="do not run this service, for example to move its consumer group (may be repeated): %(choices)s",
    )


def run(args: argparse.Namespace) -> int:
    """Runs everything until Ctrl-C, SIGTERM or a closed terminal. A second signal kills what has not ended."""
    print("Starting AudioText ...", file=sys.stderr, flush=True)  # before the imports, which take a second

    from audiotext.cli.terminal import say
    from audiotext.stack.stack import Stack, service_commands
    from core import process

    os.umask(process.PRIVATE_UMASK)
    stack = Stack(load_settings(args.data_dir, args.port), say, services=service_commands(without=args.without))
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            stack.force_stop()
        stopping.set()
        stack.cancel()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        _run(stack, stopping)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def load_settings(data_dir: Path | None, port: int | None) -> Settings:
    """Returns the settings, changed by the options of the command line. Raises SettingsError."""
    from core.settings import load

    options: dict[str, object] = {}
    if data_dir:
        options["data_dir"] = data_dir
    if port:
        options["gateway"] = {"port": port}
    return load(**options)


def _run(stack: Stack, stopping: threading.Event) -> None:
    from audiotext.cli.terminal import notes, say
    from audiotext.stack.stack import StackError

    began = time.monotonic()
    try:
        stack.start()
        stack.wait_ready()
    except StackError:
        if not stopping.is_set():
            raise
    else:
        for note in notes(stack):
            say(f"note: {note}")
        say(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C stops everything")
        _print_addresses(stack.settings)
        stack.wait()
    finally:
        stop_began = time.monotonic()
        if stopping.is_set():
            say("stopping: saving live calls and all data")
        stack.stop()
    say(f"stopped after {time.monotonic() - stop_began:.1f} s; all data is in {stack.settings.data_dir}")


def _print_addresses(settings: Settings) -> None:
    from audiotext.cli.terminal import console

    url = settings.base_url
    socket = url.replace("http", "ws", 1)
    for name, value in (
        ("media socket", f"{socket}/v1/media/twilio"),
        ("web page", f"{url}/"),
        ("API", f"{url}/v1/calls"),
        ("data", str(settings.data_dir)),
    ):
        console.print(f"  {name:<13} {value}", markup=False, highlight=False, soft_wrap=True)
