"""Tests of the directories for temporary files."""

import subprocess
import sys
from pathlib import Path

import pytest

from core import work_directory

_HOLD = """
import sys
from pathlib import Path
from core import work_directory
own = work_directory.create(Path(sys.argv[1]))
(own / "audio.wav").write_bytes(b"audio")
print(own, flush=True)
sys.stdin.read()
"""


@pytest.mark.server
def test_files_of_a_killed_process_are_deleted_and_those_of_a_running_one_stay(tmp_path: Path) -> None:
    """Starts two processes that each keep a file in their directory, and kills one of them with SIGKILL.

    The next process must delete the file of the killed one, and must not touch that of the running one. A failure
    means that audio of erased calls stays on disk, or that a second transcriber deletes the audio of the first.
    """
    root = tmp_path / "work"
    command = [sys.executable, "-c", _HOLD, str(root)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running,
    ):
        try:
            assert killed.stdout is not None
            assert running.stdout is not None
            left, used = (Path(one.stdout.readline().strip()) for one in (killed, running) if one.stdout)
            assert (left / "audio.wav").exists()
            killed.kill()
            killed.wait()

            own = work_directory.create(root)

            assert not left.exists()
            assert (used / "audio.wav").exists()
            assert own not in (left, used)
            assert list(own.iterdir()) == []
        finally:
            running.kill()
