"""Settings of a command that connects to a stack: the shell's, and the addresses of the stack on the data directory."""

import os
from pathlib import Path

from audiotext.stack.datadir import RunningStack, running_stack
from core.errors import UserError
from core.settings import Settings, load


class NotRunningError(UserError):
    """No stack runs on the directory that the user named."""


def settings_for(data_dir: Path | None) -> tuple[Settings, RunningStack | None]:
    """Returns the settings with which to connect to a stack, and the stack if one runs on this machine.

    data_dir: a stack must run on it, and its addresses take precedence. None: the stack on the default directory is
    used if one runs, and variables of the shell take precedence. Raises NotRunningError, SettingsError.
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
