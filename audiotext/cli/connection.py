"""Settings of a client command: this shell's, and the addresses of the stack that runs on the data directory."""

import os
from pathlib import Path

from audiotext.stack.datadir import RunningStack, running_stack
from core.errors import UserError
from core.settings import Settings, load


class NotRunningError(UserError):
    """No stack runs on the directory the user named."""


def settings_for(data_dir: Path | None) -> tuple[Settings, RunningStack | None]:
    """The settings to talk to a stack with, and the stack if one runs on this machine.

    A directory that is named must have one running; without, the default directory's is used if there is one, and
    what the shell has set wins. Raises NotRunningError, SettingsError.
    """
    own = load()
    stack = running_stack(data_dir or own.data_dir)
    if stack is None:
        if data_dir is not None:
            raise NotRunningError(f"no stack runs on {data_dir}: start one with `audiotext up --data-dir {data_dir}`")
        return own, None
    for name, value in stack.environment.items():
        if data_dir is not None or name not in os.environ:
            os.environ[name] = value
    return load(), stack
