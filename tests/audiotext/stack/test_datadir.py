"""Tests of the data directory: one owner, and one clear error for every other process."""

import os
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from audiotext.stack.datadir import DataDir, DataDirError, RunningStack, running_stack

Usage = namedtuple("Usage", "total used free")


def test_second_owner_gets_the_process_id(tmp_path: Path) -> None:
    """Locks a directory twice: the second lock must fail and name the process to stop.

    Two stacks on the same files would destroy them.
    """
    first = DataDir(tmp_path)
    with pytest.raises(DataDirError, match=f"process {os.getpid()}"):
        DataDir(tmp_path)
    first.release()
    DataDir(tmp_path).release()


@pytest.mark.server
def test_directory_stays_locked_by_children_of_a_killed_stack(tmp_path: Path) -> None:
    """Gives the lock to a child, releases the owner's, and tries to lock the directory.

    The lock must fail while the child runs and succeed afterwards. A failure means that two stacks can write to the
    same files.
    """
    owner = DataDir(tmp_path)
    child = subprocess.Popen((sys.executable, "-c", "input()"), stdin=subprocess.PIPE, pass_fds=(owner.lock_fd,))
    (tmp_path / "lock").write_text("999999999")  # as if the owner had died
    owner.release()
    with pytest.raises(DataDirError, match="still use"):
        DataDir(tmp_path, wait_s=0.3)
    child.communicate(b"\n")
    DataDir(tmp_path).release()


def test_almost_full_disk_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks a directory on an almost full disk: the error must contain the free and the needed space."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**12, 10**12, 123_000_000))
    with pytest.raises(DataDirError, match="123 MB free, 500 MB are needed"):
        DataDir(tmp_path)


def test_directory_that_cannot_be_created_gives_one_error(tmp_path: Path) -> None:
    """Uses a path below a file, which no user can create: one error must say so."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="cannot be written: Not a directory"):
        DataDir(tmp_path / "file" / "data")


def test_an_open_directory_is_closed_to_other_users(tmp_path: Path) -> None:
    """Uses a directory that everybody may read: afterwards only its owner may.

    A failure means that other users of the machine can copy recordings and secrets.
    """
    tmp_path.chmod(0o755)
    DataDir(tmp_path).release()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_an_open_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses an open directory whose mode cannot be changed: one error must contain the mode and the fix."""

    def refuse(_path: Path, _mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(DataDirError, match=r"mode 755\) and belongs to another user: run chmod 700"):
        DataDir(tmp_path)


def test_a_running_stack_is_found_until_it_ends(tmp_path: Path) -> None:
    """Publishes a stack and reads it until it ends.

    Client commands read addresses and secrets here and must not use those of an ended stack.
    """
    stack = RunningStack({"AUDIOTEXT_GATEWAY__PORT": "1"}, ["log"])
    owner = DataDir(tmp_path)
    assert running_stack(tmp_path) is None
    owner.publish(stack)
    assert running_stack(tmp_path) == stack
    assert (tmp_path / "addresses.json").stat().st_mode & 0o077 == 0
    (tmp_path / "lock").write_text("999999999")  # killed
    assert running_stack(tmp_path) is None
    owner.release()
    assert not (tmp_path / "addresses.json").exists()
