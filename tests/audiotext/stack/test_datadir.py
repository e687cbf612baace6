"""One owner per data directory, and one clear sentence for whoever cannot have it."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from audiotext.stack.datadir import DataDir, DataDirError, RunningStack, running_stack

Usage = namedtuple("Usage", "total used free")


def test_a_second_owner_is_told_who_has_it(tmp_path: Path) -> None:
    """Two stacks over the same files would destroy them; the message says which process to stop."""
    first = DataDir(tmp_path)
    with pytest.raises(DataDirError, match=f"process {os.getpid()}"):
        DataDir(tmp_path)
    first.release()
    DataDir(tmp_path).release()


def test_a_directory_is_not_free_while_children_of_a_killed_stack_write(tmp_path: Path) -> None:
    """What does this test do? Hands the lock to a child, gives up its own hold, and tries to take the directory.

    After SIGKILL of the supervisor the log still saves itself for a moment. Starting another over the same file then
    would lose what is being saved; so the lock lives as long as any child.
    """
    owner = DataDir(tmp_path)
    child = subprocess.Popen((sys.executable, "-c", "input()"), stdin=subprocess.PIPE, pass_fds=(owner.lock_fd,))
    (tmp_path / "lock").write_text("999999999")  # as if the owner had died
    owner.release()
    with pytest.raises(DataDirError, match="still run"):
        DataDir(tmp_path, wait_s=0.3)
    child.communicate(b"\n")
    DataDir(tmp_path).release()


def test_a_nearly_full_disk_is_refused_with_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that cannot write recordings should not take calls; the user learns how much is missing."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**12, 10**12, 123_000_000))
    with pytest.raises(DataDirError, match="123 MB free, 500 MB are needed"):
        DataDir(tmp_path)


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A path below a file, as an example of what cannot be written whoever one is."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="cannot be written: Not a directory"):
        DataDir(tmp_path / "file" / "data")


def test_a_running_stack_is_found_until_it_ends(tmp_path: Path) -> None:
    """Client commands find addresses and secrets here; what an ended stack left behind must not be taken for it."""
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
