"""The data directory of a stack on one machine: one owner at a time, room on its disk, and the running stack's
addresses for whoever wants to talk to it."""

import fcntl
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from audiotext.embedded.state import write_private
from core.errors import UserError

NEEDED_BYTES = 500_000_000  # free on the disk, or the stack does not start
ALARM_BYTES = 200_000_000  # free on the disk, or the running stack warns

_LOCK = "lock"
_ADDRESSES = "addresses.json"


class DataDirError(UserError):
    """The data directory cannot be used; the message says why and what to do."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack as others see it. environment: the variables (AUDIOTEXT_…, secrets among them) by which to reach it;
    embedded: names of the servers it brings itself."""

    environment: dict[str, str]
    embedded: list[str]


class DataDir:
    """A data directory that this process owns until `release`.

    The lock is held by a file descriptor that children inherit (`lock_fd`): as long as one of them still writes here,
    although their parent was killed, nobody else may start.
    """

    def __init__(self, path: Path, *, wait_s: float = 10.0) -> None:
        """Creates the directory if need be and takes it. Waits that long for the children of a stack that was killed.

        Raises DataDirError if it is taken, cannot be written or its disk is full.
        """
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        """What is free on its disk, for us."""
        return shutil.disk_usage(self.path).free

    def publish(self, stack: RunningStack) -> None:
        """Lets `running_stack` find the stack while it runs."""
        write_private(self.path / _ADDRESSES, json.dumps(asdict(stack), indent=1, sort_keys=True))

    def release(self) -> None:
        """Gives the directory back."""
        (self.path / _ADDRESSES).unlink(missing_ok=True)
        os.close(self.lock_fd)

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
                        f"a stack runs on {self.path} already (process {owner}): stop it, or choose another --data-dir"
                    ) from None
                if time.monotonic() > deadline:
                    raise DataDirError(
                        f"services of a stack that was killed still run on {self.path}: end them, or try again"
                    ) from None
                time.sleep(0.05)
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)

    def _check_room(self) -> None:
        free = self.free_bytes()
        if free < NEEDED_BYTES:
            raise DataDirError(
                f"the disk of {self.path} has {free // 1_000_000} MB free, {NEEDED_BYTES // 1_000_000} MB are needed"
            )


def running_stack(path: Path) -> RunningStack | None:
    """The stack that runs on that directory; None if none does."""
    try:
        stack = RunningStack(**json.loads((path / _ADDRESSES).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stack if _owner(path) is not None else None


def _owner(path: Path) -> int | None:
    """Process id of the stack that holds the directory, if that process is still there."""
    try:
        pid = int((path / _LOCK).read_text())
        os.kill(pid, 0)
    except PermissionError:
        return pid  # it is there, and somebody else's
    except (OSError, ValueError):
        return None
    return pid
