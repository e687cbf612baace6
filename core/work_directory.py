"""Directories for temporary files. They are below the data directory, and a killed process leaves nothing there.

Temporary files contain audio. The system's own directory for them would keep a file of a killed process until the
machine restarts, whatever the user erases.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_LOCK = "lock"


def create(root: Path) -> Path:
    """Creates a directory below `root` for this process, and deletes those of processes that have ended.

    Other processes may use `root` at the same time: each locks its own directory until it ends. Raises OSError.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    guard = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)  # a new directory must not be deleted before it is locked
        for path in root.iterdir():
            if path.name != _LOCK:
                _delete_unlocked(path)
        own = Path(tempfile.mkdtemp(dir=root, prefix=f"{os.getpid()}-"))
        fcntl.flock(os.open(own, os.O_RDONLY), fcntl.LOCK_EX)  # the descriptor stays open until the process ends
    finally:
        os.close(guard)
    return own


def _delete_unlocked(path: Path) -> None:
    """Deletes a file, or a directory that no process has locked."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
