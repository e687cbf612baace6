"""`audiotext up`."""

import argparse
import signal
import threading
import time
from types import FrameType

from rich.console import Console

from audiotext.embedded import log
from audiotext.stack.stack import Stack, StackError
from core.settings import Settings, load


def run(args: argparse.Namespace) -> int:
    """Runs everything until Ctrl-C, SIGTERM or a closed terminal; a second signal hastens the end."""
    stack = Stack(settings_of(args), say)
    asked_to_end = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if asked_to_end.is_set():
            stack.force_stop()
        asked_to_end.set()
        stack.cancel()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        _run(stack, asked_to_end)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings with what the command line says of them. Raises SettingsError."""
    said: dict[str, object] = {}
    if args.data_dir:
        said["data_dir"] = args.data_dir
    if args.port:
        said["gateway"] = {"port": args.port}
    return load(**said)


def say(line: str) -> None:
    """Tells the user one line, with the time."""
    _console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] ", end="", highlight=False)
    _console.print(line, markup=False, highlight=False, soft_wrap=True)


def notes(stack: Stack) -> list[str]:
    """What whoever runs the stack should know, one line each."""
    settings = stack.settings
    lines = []
    if log.NAME in stack.embedded:
        lines.append(log.NOT_DURABLE)
    if settings.admin_key is None:
        lines.append(
            "AUDIOTEXT_ADMIN_KEY is not set, so the API refuses everybody without a key: make one with "
            f"`audiotext keys create --data-dir {settings.data_dir}`"
        )
    if settings.twilio.auth_token is None:
        lines.append(
            "AUDIOTEXT_TWILIO__AUTH_TOKEN is not set, so every Twilio call is refused; "
            "to play one yourself with `audiotext call`, any text will do"
        )
    return lines


class Terminal(Console):
    """Falls silent when nobody reads any more: whoever says something, the supervisor's thread above all, goes on."""

    def on_broken_pipe(self) -> None:
        """Instead of ending the thread that wrote."""
        self.quiet = True


_console = Terminal(stderr=True)


def _run(stack: Stack, asked_to_end: threading.Event) -> None:
    began = time.monotonic()
    try:
        stack.start()
        stack.wait_ready()
    except StackError:
        if not asked_to_end.is_set():
            raise
    else:
        for note in notes(stack):
            say(f"note: {note}")
        say(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C ends everything")
        _print_addresses(stack.settings)
        stack.wait()
    finally:
        ending = time.monotonic()
        if asked_to_end.is_set():
            say("ending: live calls are marked, everything is saved")
        stack.stop()
    say(f"ended after {time.monotonic() - ending:.1f} s; everything is kept in {stack.settings.data_dir}")


def _print_addresses(settings: Settings) -> None:
    url = settings.base_url
    socket = url.replace("http", "ws", 1)
    for name, value in (
        ("media socket", f"{socket}/v1/media/twilio"),
        ("web page", f"{url}/"),
        ("API", f"{url}/v1/calls"),
        ("data", str(settings.data_dir)),
    ):
        _console.print(f"  {name:<13} {value}", markup=False, highlight=False, soft_wrap=True)
