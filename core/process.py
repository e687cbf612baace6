"""Starting and ending child processes that never outlive their parent; leaving this one."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: not in the forked child, where only little is safe


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes] | int,
    cwd: Path | None = None,
    keep_open: Sequence[int] = (),
    nice: int = 0,
    orphaned: signal.Signals = signal.SIGTERM,
) -> "subprocess.Popen[bytes]":
    """Starts a child in a session of its own (the terminal's Ctrl-C does not reach it) with stdout and stderr going to
    `output`.

    keep_open: file descriptors the child inherits. nice: how much it steps back when processors are scarce.
    orphaned: what it gets when the *thread* that called this ends, however that comes about.
    Raises OSError if the command cannot be run.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, orphaned)
        if os.getppid() != parent:  # it has died meanwhile
            os._exit(1)
        os.nice(nice)

    return subprocess.Popen(
        command,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=tuple(keep_open),
        preexec_fn=die_with_parent,  # noqa: PLW1509 - system calls only; there is no other way to ask for this
    )


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """Asks the child to end (SIGTERM)."""
    if process.poll() is None:
        process.terminate()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Ends the child and its own children at once (SIGKILL)."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def end(process: "subprocess.Popen[bytes]", timeout_s: float) -> int:
    """Ends the child, by SIGKILL if it is still there after `timeout_s`. Returns its exit code."""
    terminate(process)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        kill(process)
        return process.wait()


def exit_now(code: int = 0) -> NoReturn:
    """Ends this process now, whatever its threads do. Everything has to be done and closed.

    A thread in an engine or in a store's client cannot be interrupted. The interpreter would wait for it or, if it is a
    daemon, end it where it comes back to Python, which C++ that is on its stack answers with abort().
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
