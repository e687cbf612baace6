"""Starts and ends child processes that never outlive their parent; exits this process."""

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

PRIVATE_UMASK = 0o077
"""Other users cannot read or write new files."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here, because few operations are safe in the forked child


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes] | int,
    cwd: Path | None = None,
    keep_open: Sequence[int] = (),
    nice: int = 0,
    orphan_signal: signal.Signals = signal.SIGTERM,
) -> "subprocess.Popen[bytes]":
    """Starts a child process in its own session, so that the terminal's Ctrl-C does not reach it.

    Other users cannot read the files and sockets that the child creates.

    output: receives stdout and stderr. keep_open: file descriptors that the child inherits. nice: added to the child's
    niceness. orphan_signal: the kernel sends it to the child when the *thread* that called this function ends, for any
    reason. Raises OSError if the command cannot be run.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, orphan_signal)
        if os.getppid() != parent:  # the parent died before prctl
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
        umask=PRIVATE_UMASK,
        pass_fds=tuple(keep_open),
        preexec_fn=die_with_parent,  # noqa: PLW1509 - system calls only; prctl has no other hook
    )


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """Sends SIGTERM to the child if it runs."""
    if process.poll() is None:
        process.terminate()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kills the child and its own children at once (SIGKILL)."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def end(process: "subprocess.Popen[bytes]", timeout_s: float) -> int:
    """Ends the child, by SIGKILL if it still runs after `timeout_s`. Returns its exit code."""
    terminate(process)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        kill(process)
        return process.wait()


def raise_descriptor_limit() -> None:
    """Raises the process's limit of open files to the maximum: each connection needs one, and 1024 is a low default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def exit_now(code: int = 0) -> NoReturn:
    """Ends this process at once, while other threads may still run. The caller has closed everything before.

    A thread inside an engine or a store's client cannot be interrupted. A normal exit would wait for it. If it is a
    daemon thread, the interpreter would end it when it returns to Python; C++ code on its stack then calls abort().
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
