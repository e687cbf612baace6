"""Tests of child processes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core import process


@pytest.mark.server
def test_files_of_a_child_are_private(tmp_path: Path) -> None:
    """Starts a child that creates a file and a directory: nobody but their owner may use them.

    A failure means that other users of the machine can read what the services write, for example the audio of live
    calls.
    """
    previous = os.umask(0o022)
    try:
        create = "from pathlib import Path; Path('file').touch(); Path('folder').mkdir()"
        command = (sys.executable, "-c", create)
        child = process.spawn(command, env={}, output=subprocess.DEVNULL, cwd=tmp_path)
        assert child.wait(30) == 0
    finally:
        os.umask(previous)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"file": 0o600, "folder": 0o700}
