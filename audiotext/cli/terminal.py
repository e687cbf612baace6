"""Output of a stack on the terminal: progress lines and notes."""

import time

from rich.console import Console

from audiotext.embedded import log
from audiotext.stack.stack import Stack
from core.printable import printable


class Terminal(Console):
    """Console that becomes silent when its reader closes the pipe.

    The supervisor's thread writes to it and must not end, because its child processes die with it.
    """

    def on_broken_pipe(self) -> None:
        """Stops the output. Rich's own handler would end the thread that writes."""
        self.quiet = True


console = Terminal(stderr=True)


def say(line: str) -> None:
    """Prints one line with the time of day."""
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] ", end="", highlight=False)
    console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def notes(stack: Stack) -> list[str]:
    """Returns what the operator of the stack should know, one line each."""
    settings = stack.settings
    lines = []
    if log.NAME in stack.embedded:
        lines.append(log.NOT_DURABLE)
    if stack.log_is_open:
        lines.append(log.NOT_PRIVATE)
    if settings.admin_key is None:
        lines.append(
            "AUDIOTEXT_ADMIN_KEY is not set, so the API refuses every request without a key: create one with "
            f"`audiotext keys create --data-dir {settings.data_dir}`"
        )
    if settings.twilio.auth_token is None:
        lines.append(
            "AUDIOTEXT_TWILIO__AUTH_TOKEN is not set, so the gateway refuses every Twilio call; "
            "to play one with `audiotext call`, set it to any text"
        )
    return lines
