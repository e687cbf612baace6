"""Settings of a command that connects to a stack: the shell's, and the addresses of the stack on the data directory."""

import os
from pathlib import Path

from audiotext.stack.datadir import START_OR_NAME_ONE, RunningStack, running_stack
from core.errors import UserError
from core.settings import Settings, load


class NotRunningError(UserError):
    """No stack runs on the directory, and no server of the user's own is configured."""


def settings_for(data_dir: Path | None, *, needs_servers: bool = True) -> tuple[Settings, RunningStack | None]:
    """Returns the settings with which to connect to a stack, and the stack if one runs on this machine.

    data_dir: a stack must run on it, and its addresses take precedence. None: the stack on the default directory is
    used if one runs, and variables of the shell take precedence. needs_servers: without a stack, the address of a
    server must be configured. Raises NotRunningError, SettingsError.
    """
    own = load()
    stack = running_stack(data_dir or own.data_dir)
    if stack is None:
        if data_dir is not None:
            raise NotRunningError(f"no stack runs on {data_dir}: start one with `audiotext up --data-dir {data_dir}`")
        if needs_servers and not own.has_servers:
            raise NotRunningError(f"no running stack found in {own.data_dir}: {START_OR_NAME_ONE}")
        return own, None
    for name, value in stack.environment.items():
        if data_dir is not None or name not in os.environ:
            os.environ[name] = value
    return load(), stack
