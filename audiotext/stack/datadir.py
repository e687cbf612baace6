"""Data directory of a single-machine stack: exclusive ownership, free disk space, and the running stack's addresses."""

import fcntl
import json
import os
import shutil
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from audiotext.embedded.state import write_private
from core.errors import UserError

NEEDED_BYTES = 500_000_000  # free disk space below which the stack does not start
ALARM_BYTES = 200_000_000  # free disk space below which the running stack warns

START_OR_NAME_ONE = (
    "run `audiotext up`, name the directory of a running stack with --data-dir, or set the addresses of your servers "
    "(AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS and others)"
)
"""Fix for a command that finds no stack."""

_LOCK = "lock"
_ADDRESSES = "addresses.json"


class DataDirError(UserError):
    """The data directory cannot be used; the message names the reason and the fix."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Connection data of a running stack.

    environment: variables (AUDIOTEXT_…, secrets included) with which a process reaches it. embedded: names of its
    embedded servers.
    """

    environment: dict[str, str]
    embedded: list[str]


class DataDir:
    """A data directory that this process owns until `release`.

    The lock belongs to a file descriptor that child processes inherit (`lock_fd`). So no other stack can start while a
    child of a killed stack still writes to the directory.
    """

    def __init__(self, path: Path, *, wait_s: float = 10.0) -> None:
        """Creates the directory if it is missing, closes it to other users and locks it.

        wait_s: longest wait for the children of a killed stack. Raises DataDirError if the directory is in use or
        cannot be written, or if its disk is full.
        """
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            self.lock_fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataDirError(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            self._lock(wait_s)
            self._check_room()
        except DataDirError:
            os.close(self.lock_fd)
            raise

    def free_bytes(self) -> int:
        """Returns the free space on the directory's disk."""
        return shutil.disk_usage(self.path).free

    def publish(self, stack: RunningStack) -> None:
        """Writes the stack's connection data for `running_stack`."""
        write_private(self.path / _ADDRESSES, json.dumps(asdict(stack), indent=1, sort_keys=True))

    def release(self) -> None:
        """Unlocks the directory."""
        (self.path / _ADDRESSES).unlink(missing_ok=True)
        os.close(self.lock_fd)

    def _close_to_others(self) -> None:
        """Removes the permissions of group and others, because the directory contains recordings and secrets."""
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if not mode & 0o077:
            return
        try:
            self.path.chmod(mode & 0o700)
        except PermissionError:
            raise DataDirError(
                f"{self.path} is open to other users (mode {mode:o}) and belongs to another user: "
                "run chmod 700 on it as its owner, or choose another --data-dir"
            ) from None

    def _lock(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = _owner(self.path)
                if owner is not None:
                    raise DataDirError(
                        f"a stack already runs on {self.path} (process {owner}): stop it, or choose another --data-dir"
                    ) from None
                if time.monotonic() > deadline:
                    raise DataDirError(
                        f"services of a killed stack still use {self.path}: end them, or try again later"
                    ) from None
                time.sleep(0.05)
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)

    def _check_room(self) -> None:
        free = self.free_bytes()
        if free < NEEDED_BYTES:
            raise DataDirError(
                f"the disk of {self.path} has {free // 1_000_000} MB free, {NEEDED_BYTES // 1_000_000} MB are needed: "
                "free some space, or choose another --data-dir"
            )


def running_stack(path: Path) -> RunningStack | None:
    """Returns the stack that runs on the directory, or None."""
    try:
        stack = RunningStack(**json.loads((path / _ADDRESSES).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stack if _owner(path) is not None else None


def _owner(path: Path) -> int | None:
    """Returns the process id of the stack that owns the directory, or None if that process has ended."""
    try:
        pid = int((path / _LOCK).read_text())
        os.kill(pid, 0)
    except PermissionError:
        return pid  # the process exists and belongs to another user
    except (OSError, ValueError):
        return None
    return pid
