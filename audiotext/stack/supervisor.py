"""Keeps child processes running: restarts what dies, with back-off, and ends them in good order.

A child that has told that it lives (core.heartbeat) and then falls silent is killed, and so started again.

Each child writes to a log file of its own, which is followed for warnings; nothing hangs on a pipe to the
supervisor, so a child that outlives it for a moment can still say what it does.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core import logs, process
from core.heartbeat import HANGS_S, WatchdogSocket

_TICK_S = 0.05
_MISSED_S = 5.0  # between two looks: more than a busy machine explains
_LOG_LIMIT = 10 * 1024 * 1024  # bytes: a log file larger than this at its child's start makes room for a new one
# What the dynamic linker prints for noida-db's binary on Debian 12: harmless, so not worth a reader's time.
_NOISE = "weak version `GLIBC"


@dataclass(frozen=True, slots=True)
class Program:
    """A child to keep running. env: the whole environment it gets; nice: how much it steps back for others; orphaned:
    the signal it gets should the supervisor die before it; refuses: the exit code by which it says that with such
    settings it never can run."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    nice: int = 0
    orphaned: signal.Signals = signal.SIGKILL
    refuses: int | None = None


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How long to wait before a child that died is started again, seconds.

    The delay doubles from `first_delay_s` to `max_delay_s` and starts over after a life of `healthy_s`. A child that
    died `hopeless_after` times in a row, each time within `early_s`, probably needs somebody to look at it.
    hangs_s: after so long without a heartbeat a child that had one is killed.
    """

    first_delay_s: float = 0.2
    max_delay_s: float = 10.0
    healthy_s: float = 30.0
    early_s: float = 10.0
    hopeless_after: int = 3
    hangs_s: float = HANGS_S

    def delay_s(self, failures: int) -> float:
        """The delay after that many deaths in a row (from 1)."""
        return min(self.max_delay_s, self.first_delay_s * 2.0 ** min(failures - 1, 32))


@dataclass(frozen=True, slots=True)
class Failures:
    """Deaths in a row without a healthy life in between; `early` of them came early."""

    total: int = 0
    early: int = 0

    def after(self, lived_s: float, policy: RestartPolicy) -> "Failures":
        """The count after a child died that had lived so long."""
        if lived_s >= policy.healthy_s:
            return Failures(1, 0)
        return Failures(self.total + 1, self.early + 1 if lived_s < policy.early_s else 0)


@dataclass(frozen=True, slots=True)
class Status:
    """How a child fares. pid: None while it does not run. restarts: since the supervisor began."""

    name: str
    pid: int | None
    restarts: int
    hopeless: bool


@dataclass
class _Child:
    program: Program
    log: "LogFile"
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    due: float = 0.0  # when to start it
    failures: Failures = field(default_factory=Failures)
    restarts: int = 0
    stopping: bool = False
    heart: WatchdogSocket = field(default_factory=WatchdogSocket)
    beat_at: float | None = None  # None: it has not told anything yet, so nothing is expected


class LogFile:
    """A child's log: the file it writes to, and the reader that follows it."""

    def __init__(self, path: Path) -> None:
        """Makes room for a new file if the one there is large."""
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_name(path.name + ".1"))
        path.touch(mode=0o600)
        self._read_to = path.stat().st_size
        self._rest = b""
        self.last_line = ""

    def new_lines(self) -> list[str]:
        """Complete lines written since the last call."""
        if self.path.stat().st_size <= self._read_to:
            return []
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            content = file.read()
        self._read_to += len(content)
        *complete, self._rest = (self._rest + content).split(b"\n")
        lines = [line.decode(errors="replace") for line in complete]
        self.last_line = next((line.strip() for line in reversed(lines) if line.strip()), self.last_line)
        return [line for line in lines if _NOISE not in line]


class Supervisor:
    """Runs children in a thread of its own (which they die with), until closed.

    say: is told, one line at a time, what a user should know; called from that thread.
    keep_open: file descriptors all children inherit. refused: is told, likewise, of a child that is not started again
    since it refused to run, and why. Only at its first start: what comes later is not its settings' fault alone, and no
    reason to end what runs.
    """

    def __init__(
        self,
        log_dir: Path,
        say: Callable[[str], None],
        *,
        policy: RestartPolicy | None = None,
        keep_open: Sequence[int] = (),
        refused: Callable[[str], None] | None = None,
    ) -> None:
        self._log_dir = log_dir
        self._say = say
        self._policy = policy or RestartPolicy()
        self._keep_open = tuple(keep_open)
        self._refused = refused or say
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
        """How each child fares, by name, in the order they were started."""
        with self._lock:
            return {
                name: Status(
                    name,
                    child.process.pid if child.process and child.process.poll() is None else None,
                    child.restarts,
                    child.failures.early >= self._policy.hopeless_after,
                )
                for name, child in self._children.items()
            }

    def log_path(self, name: str) -> Path:
        """Where the child's output is."""
        return self._log_dir / f"{name}.log"

    def stop(self, names: Iterable[str], timeout_s: Callable[[], float]) -> list[str]:
        """Asks these children to end, all at the same time, and waits for them.

        timeout_s: asked again and again for the seconds still to wait, so that a user who is in a hurry can shorten
        them; when none are left, those still there are killed. Returns their names.
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
        """Ends what still runs, at once, and the thread."""
        self.stop(list(self._children), lambda: 0.0)
        self._closed.set()
        self._thread.join()
        for child in self._children.values():
            child.heart.close()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._closed.wait(_TICK_S):
            with self._lock:
                now = time.monotonic()
                missed, looked = now - looked, now
                for child in self._children.values():
                    if child.beat_at is not None and missed > _MISSED_S:
                        child.beat_at += missed  # we were suspended, and so may have been all of us
                    self._look_after(child)

    def _look_after(self, child: _Child) -> None:
        self._read(child)
        if child.stopping:
            return
        now = time.monotonic()
        if child.process is None:
            if now >= child.due:
                self._spawn(child, now)
        elif (code := child.process.poll()) is not None:
            if code == child.program.refuses and not child.restarts:
                self._never(child)
            else:
                self._died(child, now, _how(code))
        elif child.heart.heard():
            child.beat_at = now
        elif child.beat_at is not None and now - child.beat_at > self._policy.hangs_s:
            self._say(f"{child.program.name}: hangs, no sign of life for {now - child.beat_at:.0f} s; it is killed")
            child.beat_at = None
            process.kill(child.process)

    def _read(self, child: _Child) -> None:
        for line in child.log.new_lines():
            warning = logs.warning_in(line)
            if warning:
                self._say(f"{child.program.name}: {warning}")

    def _spawn(self, child: _Child, now: float) -> None:
        program = child.program
        child.started_at = now
        child.heart.heard()  # what its predecessor told
        child.beat_at = None
        try:
            with child.log.path.open("ab") as output:
                child.process = process.spawn(
                    program.command,
                    env=dict(program.env) | child.heart.environment,
                    output=output,
                    cwd=program.cwd,
                    keep_open=self._keep_open,
                    nice=program.nice,
                    orphaned=program.orphaned,
                )
        except OSError as error:
            self._died(child, now, f"cannot be started ({os.strerror(error.errno or 0)})")

    def _never(self, child: _Child) -> None:
        child.process = None
        child.stopping = True
        self._read(child)  # its last words, which may have come since
        self._refused(f"{child.program.name} cannot run: {child.log.last_line.removeprefix('audiotext: ')}")

    def _died(self, child: _Child, now: float, how: str) -> None:
        name = child.program.name
        child.process = None
        child.failures = child.failures.after(now - child.started_at, self._policy)
        child.restarts += 1
        delay = self._policy.delay_s(child.failures.total)
        child.due = now + delay
        self._say(f"{name}: {how}, started again in {delay:.2g} s")
        if child.failures.early == self._policy.hopeless_after:
            said = f' It said last: "{child.log.last_line}".' if child.log.last_line else ""
            self._say(f"{name}: does not stay up.{said} Its log: {child.log.path}")


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
