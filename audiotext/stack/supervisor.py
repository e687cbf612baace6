"""Keeps child processes running: restarts them with back-off when they end, and stops them in order.

A child that has sent a heartbeat (core.heartbeat) and then becomes silent is killed and restarted.

Each child writes to its own log file, in which the supervisor looks for warnings. There is no pipe to the supervisor,
so a child that outlives it for a moment can still write its log.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core import logs, process
from core.heartbeat import HANG_TIMEOUT_S, WatchdogSocket

_TICK_S = 0.05
_SUSPENDED_S = 5.0  # a longer time between two checks means that this process was suspended
_LOG_LIMIT = 10 * 1024 * 1024  # bytes; a larger log file is moved to NAME.log.1 and begins again
# The dynamic linker prints this harmless warning for noida-db's binary on Debian 12.
_IGNORED_WARNING = "weak version `GLIBC"


@dataclass(frozen=True, slots=True)
class Program:
    """A child process to keep running.

    env: its whole environment. keep_open: file descriptors that it inherits. nice: added to its niceness.
    orphan_signal: sent to it if the supervisor dies first.
    refusal_code: the exit code with which it reports that it cannot run with its settings.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    nice: int = 0
    orphan_signal: signal.Signals = signal.SIGKILL
    refusal_code: int | None = None
    keep_open: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Delays before a child is restarted, in seconds.

    The delay doubles from `first_delay_s` to `max_delay_s` and starts over after a run of `healthy_s`. A child that
    ended `failing_after` times in a row, each time within `early_s`, counts as failing and is reported to the user.
    hang_timeout_s: a child that has sent a heartbeat is killed after this time without another one.
    """

    first_delay_s: float = 0.2
    max_delay_s: float = 10.0
    healthy_s: float = 30.0
    early_s: float = 10.0
    failing_after: int = 3
    hang_timeout_s: float = HANG_TIMEOUT_S

    def delay_s(self, failures: int) -> float:
        """Returns the delay after that many failures in a row (from 1)."""
        return min(self.max_delay_s, self.first_delay_s * 2.0 ** min(failures - 1, 32))


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures in a row without a healthy run in between; `early` counts the last ones that came early."""

    total: int = 0
    early: int = 0

    def after(self, lived_s: float, policy: RestartPolicy) -> "Failures":
        """Returns the count after a child ended that had run for `lived_s`."""
        if lived_s >= policy.healthy_s:
            return Failures(1, 0)
        return Failures(self.total + 1, self.early + 1 if lived_s < policy.early_s else 0)


@dataclass(frozen=True, slots=True)
class Status:
    """Status of a child. pid: None while it does not run. restarts: since the supervisor's start."""

    name: str
    pid: int | None
    restarts: int
    failing: bool


@dataclass
class _Child:
    program: Program
    log: "LogFile"
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    due: float = 0.0  # monotonic time of the next start
    failures: Failures = field(default_factory=Failures)
    restarts: int = 0
    stopping: bool = False
    watchdog: WatchdogSocket = field(default_factory=WatchdogSocket)
    last_beat_at: float | None = None  # None before the first heartbeat, when the watchdog is inactive


class LogFile:
    """Log file of a child, with a reader that follows it."""

    def __init__(self, path: Path) -> None:
        """Creates the file, and rotates an existing large one."""
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._position = path.stat().st_size
        self._partial_line = b""
        self.last_line = ""
        self._rotate_large()

    def new_lines(self) -> list[str]:
        """Returns the complete lines written since the last call. Rotates the file if it is large."""
        if self.path.stat().st_size <= self._position:
            return []
        with self.path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        self._position += len(content)
        content += self._rotate_large()
        *complete, self._partial_line = (self._partial_line + content).split(b"\n")
        lines = [line.decode(errors="replace") for line in complete]
        self.last_line = next((line.strip() for line in reversed(lines) if line.strip()), self.last_line)
        return [line for line in lines if _IGNORED_WARNING not in line]

    def _rotate_large(self) -> bytes:
        """Copies a large file to NAME.1 and empties it. Returns the bytes that nobody has read before.

        The child keeps its descriptor, which appends, so the file cannot be renamed under it. Only what the child
        writes between the last read and the truncation, a few microseconds, is lost.
        """
        if self.path.stat().st_size <= _LOG_LIMIT:
            return b""
        old = self.path.with_name(self.path.name + ".1")
        with self.path.open("r+b") as file, old.open("wb") as copy:
            old.chmod(0o600)
            shutil.copyfileobj(file, copy)
            file.seek(self._position)
            unread = file.read()
            copy.write(unread[copy.tell() - self._position :])
            file.truncate(0)
        self._position = 0
        return unread


class Supervisor:
    """Runs children from its own thread until it is closed. If that thread ends, the children end as well.

    say: receives messages for the user, one line each, in that thread. keep_open: file descriptors that all children
    inherit. on_refused: receives the message of a child that cannot run with its settings and is not restarted. This
    applies only to a child's first start: a later failure may have other causes and must not end the running stack.
    """

    def __init__(
        self,
        log_dir: Path,
        say: Callable[[str], None],
        *,
        policy: RestartPolicy | None = None,
        keep_open: Sequence[int] = (),
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        self._log_dir = log_dir
        self._say = say
        self._policy = policy or RestartPolicy()
        self._keep_open = tuple(keep_open)
        self._report_refused = on_refused or say
        self._children: dict[str, _Child] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def start(self, programs: Iterable[Program]) -> None:
        """Starts the programs and keeps them running."""
        with self._lock:
            for program in programs:
                log = LogFile(self._log_dir / f"{program.name}.log")
                self._children[program.name] = _Child(program, log)

    def status(self) -> dict[str, Status]:
        """Returns the status of each child by name, in start order."""
        with self._lock:
            return {
                name: Status(
                    name,
                    child.process.pid if child.process and child.process.poll() is None else None,
                    child.restarts,
                    child.failures.early >= self._policy.failing_after,
                )
                for name, child in self._children.items()
            }

    def log_path(self, name: str) -> Path:
        """Returns the path of the child's log file."""
        return self._log_dir / f"{name}.log"

    def stop(self, names: Iterable[str], timeout_s: Callable[[], float]) -> list[str]:
        """Sends SIGTERM to these children at the same time, waits for them and kills the rest.

        timeout_s: returns the remaining seconds; it is invoked repeatedly, so that the user can shorten the wait.
        Returns the names of the killed children.
        """
        with self._lock:
            children = [self._children[name] for name in names if name in self._children]
            running = []
            for child in children:
                child.stopping = True
                if child.process is not None:
                    running.append((child, child.process))
                    process.terminate(child.process)
        while any(running_process.poll() is None for _, running_process in running):
            if timeout_s() <= 0:
                break
            time.sleep(_TICK_S / 2)
        killed = [child.program.name for child, running_process in running if running_process.poll() is None]
        for _, running_process in running:
            process.kill(running_process)
            running_process.wait()
        return killed

    def close(self) -> None:
        """Kills the remaining children and ends the thread."""
        self.stop(list(self._children), lambda: 0.0)
        self._closed.set()
        self._thread.join()
        for child in self._children.values():
            child.watchdog.close()

    def _run(self) -> None:
        checked = time.monotonic()
        while not self._closed.wait(_TICK_S):
            with self._lock:
                now = time.monotonic()
                elapsed, checked = now - checked, now
                for child in self._children.values():
                    if child.last_beat_at is not None and elapsed > _SUSPENDED_S:
                        child.last_beat_at += elapsed  # this process was suspended, and perhaps the child as well
                    self._check(child)

    def _check(self, child: _Child) -> None:
        self._read(child)
        if child.stopping:
            return
        now = time.monotonic()
        if child.process is None:
            if now >= child.due:
                self._spawn(child, now)
        elif (code := child.process.poll()) is not None:
            if code == child.program.refusal_code and not child.restarts:
                self._on_refused(child)
            else:
                self._on_exit(child, now, _describe_exit(code))
        elif child.watchdog.received():
            child.last_beat_at = now
        elif child.last_beat_at is not None and now - child.last_beat_at > self._policy.hang_timeout_s:
            self._say(f"{child.program.name}: hangs, no heartbeat for {now - child.last_beat_at:.0f} s; it is killed")
            child.last_beat_at = None
            process.kill(child.process)

    def _read(self, child: _Child) -> None:
        for line in child.log.new_lines():
            warning = logs.warning_in(line)
            if warning:
                self._say(f"{child.program.name}: {warning}")

    def _spawn(self, child: _Child, now: float) -> None:
        program = child.program
        child.started_at = now
        child.watchdog.received()  # discards heartbeats of the previous process
        child.last_beat_at = None
        try:
            with child.log.path.open("ab") as output:
                child.process = process.spawn(
                    program.command,
                    env=dict(program.env) | child.watchdog.environment,
                    output=output,
                    cwd=program.cwd,
                    keep_open=(*self._keep_open, *program.keep_open),
                    nice=program.nice,
                    orphan_signal=program.orphan_signal,
                )
        except OSError as error:
            self._on_exit(child, now, f"cannot be started ({os.strerror(error.errno or 0)})")

    def _on_refused(self, child: _Child) -> None:
        child.process = None
        child.stopping = True
        self._read(child)  # reads lines written since the last check
        self._report_refused(f"{child.program.name} cannot run: {child.log.last_line.removeprefix('audiotext: ')}")

    def _on_exit(self, child: _Child, now: float, reason: str) -> None:
        name = child.program.name
        child.process = None
        child.failures = child.failures.after(now - child.started_at, self._policy)
        child.restarts += 1
        delay = self._policy.delay_s(child.failures.total)
        child.due = now + delay
        self._say(f"{name}: {reason}, restarts in {delay:.2g} s")
        if child.failures.early == self._policy.failing_after:
            last_line = f' Its last log line: "{child.log.last_line}".' if child.log.last_line else ""
            self._say(f"{name}: keeps failing.{last_line} Its log: {child.log.path}")


def _describe_exit(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
