"""Keeping children alive, with tiny real processes: restarts, back-off, order and deadlines at the end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotext.stack import supervisor as supervisor_module
from audiotext.stack.supervisor import Failures, LogFile, Program, RestartPolicy, Status, Supervisor

pytestmark = pytest.mark.server

_ROOT = Path(__file__).parents[2]
QUICK = RestartPolicy(first_delay_s=0.05, max_delay_s=0.2, healthy_s=30, early_s=5, failing_after=3)

WAITS = "import time\nprint('up', flush=True)\ntime.sleep(600)"
IGNORES_SIGTERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS
FAILS = "raise SystemExit('no such setting')"
WARNS = (
    "print('2026-11-22T10:00:00.000Z INFO dummy fine')\nprint('2026-11-22T10:00:00.000Z WARNING dummy hot')\n" + WAITS
)


def wait_for(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def program(name: str, source: str) -> Program:
    return Program(name, (sys.executable, "-c", source), os.environ | {"PYTHONPATH": str(_ROOT)})


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Messages:
    """Messages of the supervisor to the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def has(self, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in self.lines)


@pytest.fixture
def messages() -> Messages:
    return Messages()


@pytest.fixture
def supervisor(tmp_path: Path, messages: Messages) -> Iterator[Supervisor]:
    running = Supervisor(tmp_path / "logs", messages, policy=QUICK)
    yield running
    running.close()


def pid_of(supervisor: Supervisor, name: str) -> int:
    wait_for(lambda: supervisor.status()[name].pid and "up" in supervisor.log_path(name).read_text())
    pid = supervisor.status()[name].pid
    assert pid is not None
    return pid


def test_killed_child_is_restarted_and_reported(supervisor: Supervisor, messages: Messages) -> None:
    """Kills a child with SIGKILL and waits for its successor: it must start, and the user must get a message."""
    supervisor.start([program("dummy", WAITS)])
    first = pid_of(supervisor, "dummy")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: supervisor.status()["dummy"].pid not in (None, first))
    assert supervisor.status()["dummy"].restarts == 1
    assert messages.has("dummy", "was killed by signal 9", "restarts in")


def test_failing_child_is_reported_with_its_log(supervisor: Supervisor, messages: Messages) -> None:
    """Runs a child that always fails: after three failures the user must get its last line and its log's path, once."""
    supervisor.start([program("dummy", FAILS)])
    wait_for(lambda: supervisor.status()["dummy"].restarts >= 4)
    failing = [line for line in messages.lines if "keeps failing" in line]
    assert len(failing) == 1
    assert "no such setting" in failing[0]
    assert str(supervisor.log_path("dummy")) in failing[0]
    assert supervisor.status()["dummy"].failing


REFUSES = "import sys\nprint('audiotext: no key', file=sys.stderr)\nsys.exit(2)"


def test_child_with_refusal_code_is_not_restarted(tmp_path: Path) -> None:
    """Runs two children with exit code 2; only for the first it is the refusal code.

    The first must be reported with its reason and not be restarted; the second must be restarted. Otherwise a wrong
    setting causes endless restarts while `audiotext up` reports success.
    """
    messages, refused = Messages(), Messages()
    supervisor = Supervisor(tmp_path / "logs", messages, policy=QUICK, on_refused=refused)
    try:
        supervisor.start([replace(program("service", REFUSES), refusal_code=2), program("server", REFUSES)])
        wait_for(lambda: refused.lines and supervisor.status()["server"].restarts >= 2)
        assert refused.lines == ["service cannot run: no key"]
        assert supervisor.status()["service"] == Status("service", None, 0, failing=False)
        assert not messages.has("service")
    finally:
        supervisor.close()


def test_refusal_after_the_first_start_causes_a_restart(tmp_path: Path) -> None:
    """Runs a child, kills it, and lets the next start return the refusal code, as during an edit of audiotext.toml.

    It must be restarted, and the live calls of other services must not be ended.
    """
    refused = Messages()
    once = tmp_path / "once"
    source = f"from pathlib import Path\nif Path({str(once)!r}).exists(): raise SystemExit(2)\n{WAITS}"
    supervisor = Supervisor(tmp_path / "logs", Messages(), policy=QUICK, on_refused=refused)
    try:
        supervisor.start([replace(program("dummy", source), refusal_code=2)])
        first = pid_of(supervisor, "dummy")
        once.touch()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: supervisor.status()["dummy"].restarts >= 3)
        assert refused.lines == []
    finally:
        supervisor.close()


def test_missing_command_is_reported(supervisor: Supervisor, messages: Messages) -> None:
    """Starts a missing program: it must be reported, and the supervisor and the other children must continue."""
    supervisor.start([Program("gone", ("/no/such/program",), {}), program("dummy", WAITS)])
    pid_of(supervisor, "dummy")
    wait_for(lambda: messages.has("gone", "cannot be started"))


def test_warnings_are_shown_and_all_lines_are_logged(supervisor: Supervisor, messages: Messages) -> None:
    """Writes an info and a warning.

    The user must see the warning with the service's name; the log must contain both.
    """
    supervisor.start([program("dummy", WARNS)])
    wait_for(lambda: messages.has("dummy: WARNING hot"))
    assert not messages.has("fine")
    assert "INFO dummy fine" in supervisor.log_path("dummy").read_text()


def test_children_are_ended_together(supervisor: Supervisor) -> None:
    """Stops three children at the same time: all must end, and none may be restarted."""
    supervisor.start(program(f"dummy{number}", WAITS) for number in range(3))
    pids = [pid_of(supervisor, f"dummy{number}") for number in range(3)]
    assert supervisor.stop(["dummy0", "dummy1", "dummy2"], lambda: 5.0) == []
    assert not any(alive(pid) for pid in pids)
    time.sleep(3 * QUICK.first_delay_s)
    assert all(status.pid is None for status in supervisor.status().values())


def test_child_that_ignores_sigterm_is_killed_at_the_deadline(supervisor: Supervisor) -> None:
    """Stops a child that ignores SIGTERM: it must be killed at the deadline and be named."""
    supervisor.start([program("stubborn", IGNORES_SIGTERM), program("dummy", WAITS)])
    pid, _ = pid_of(supervisor, "stubborn"), pid_of(supervisor, "dummy")
    deadline = time.monotonic() + 0.3
    assert supervisor.stop(["stubborn", "dummy"], lambda: deadline - time.monotonic()) == ["stubborn"]
    assert time.monotonic() < deadline + 1.0
    assert not alive(pid)


def test_a_second_ctrl_c_shortens_the_wait(supervisor: Supervisor) -> None:
    """Shortens the timeout during a stop, as a second Ctrl-C does: the stop must end at once."""
    supervisor.start([program("stubborn", IGNORES_SIGTERM)])
    pid_of(supervisor, "stubborn")
    forced = threading.Event()
    threading.Timer(0.2, forced.set).start()
    began = time.monotonic()
    supervisor.stop(["stubborn"], lambda: 0.0 if forced.is_set() else 60.0)
    assert time.monotonic() - began < 5.0


def test_a_child_waiting_for_its_restart_is_not_started_after_stop(supervisor: Supervisor, messages: Messages) -> None:
    """Stops a child that waits for its restart: it must not start again."""
    supervisor.start([program("dummy", FAILS)])
    wait_for(lambda: messages.has("restarts in"))
    supervisor.stop(["dummy"], lambda: 5.0)
    restarts = supervisor.status()["dummy"].restarts
    time.sleep(3 * QUICK.max_delay_s)
    assert supervisor.status()["dummy"].restarts == restarts


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """Runs a supervisor in a separate process, kills it, and looks for its child.

    The child must end too; otherwise it would keep its ports and write to the data directory.
    """
    source = f"""
import os, sys, time
from pathlib import Path
from audiotext.stack.supervisor import Program, Supervisor
running = Supervisor(Path({str(tmp_path)!r}), print)
running.start([Program("dummy", (sys.executable, "-c", {WAITS!r}), dict(os.environ))])
while not (running.status()["dummy"].pid and "up" in running.log_path("dummy").read_text()):
    time.sleep(0.01)
print(running.status()["dummy"].pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen((sys.executable, "-c", source), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or not alive(child))


@given(st.integers(1, 500))
def test_the_delay_doubles_up_to_its_limit(failures: int) -> None:
    """Computes the delays: never below the first, never above the limit, and never decreasing."""
    policy = RestartPolicy()
    assert policy.first_delay_s <= policy.delay_s(failures) <= policy.max_delay_s
    assert policy.delay_s(failures) <= policy.delay_s(failures + 1)
    assert [policy.delay_s(number) for number in (1, 2, 3, 10)] == [0.2, 0.4, 0.8, 10.0]


def test_healthy_run_resets_the_failures() -> None:
    """Counts a failure after a healthy run: the count must start again, so that a rare failure has a short delay."""
    policy = RestartPolicy()
    failures = Failures()
    for _ in range(20):
        failures = failures.after(1.0, policy)
    assert failures == Failures(20, 20)
    assert failures.after(31.0, policy) == Failures(1, 0)
    assert failures.after(15.0, policy) == Failures(21, 0)


def test_large_log_is_rotated_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens a large log: it must become NAME.log.1, so that logs do not fill the disk over months."""
    monkeypatch.setattr(supervisor_module, "_LOG_LIMIT", 100)
    path = tmp_path / "dummy.log"
    path.write_text("old\n" * 100)
    LogFile(path)
    assert path.read_text() == ""
    assert (tmp_path / "dummy.log.1").read_text().startswith("old")


def test_large_log_is_rotated_while_its_child_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes 1,000 lines as a child does, through one descriptor that stays open, and reads the log now and then.

    No line may be missing from what is read, and the two files together must stay near the limit. Otherwise a service
    that repeats an error fills the disk.
    """
    monkeypatch.setattr(supervisor_module, "_LOG_LIMIT", 1_000)
    log = LogFile(tmp_path / "dummy.log")
    read: list[str] = []
    with log.path.open("ab", buffering=0) as child:
        for number in range(1_000):
            child.write(f"line {number}\n".encode())
            if number % 10 == 9:
                read += log.new_lines()
                assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_500
    assert read == [f"line {number}" for number in range(1_000)]
    assert (tmp_path / "dummy.log.1").stat().st_mode & 0o077 == 0


def test_only_complete_lines_are_read(tmp_path: Path) -> None:
    """Reads a line that is still being written.

    It must be returned once, when complete; the linker's warning is ignored.
    """
    log = LogFile(tmp_path / "dummy.log")
    with log.path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert log.new_lines() == ["one"]
        file.write("o\nx: weak version `GLIBC_2.39' not found\n")
        file.flush()
        assert log.new_lines() == ["two"]
        assert log.new_lines() == []


def test_killed_supervisor_kills_children_that_ignore_sigterm(tmp_path: Path) -> None:
    """Kills a supervisor in a separate process whose child ignores SIGTERM: the child must be killed.

    Otherwise it would keep the data directory locked, and the stack could not be restarted.
    """
    source = f"""
import os, sys, time
from pathlib import Path
from audiotext.stack.supervisor import Program, Supervisor
supervisor = Supervisor(Path({str(tmp_path)!r}), print)
supervisor.start([Program("stubborn", (sys.executable, "-c", {IGNORES_SIGTERM!r}), dict(os.environ))])
log = supervisor.log_path("stubborn")
while "up" not in log.read_text():
    time.sleep(0.01)
print(supervisor.status()["stubborn"].pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_for(lambda: not alive(pid))


BEATS = """
import os, signal, sys, threading, time
from core.heartbeat import Heartbeat
heart = Heartbeat.from_environment()
heart.beat()
print('up', flush=True)
"""
PAUSES = BEATS + "time.sleep(1.1)\nheart.beat()\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(600)"
DEADLOCKS = BEATS + "lock = threading.Lock()\nlock.acquire()\nlock.acquire()"
WORKS = BEATS + "while True:\n    time.sleep(0.1)\n    heart.beat()"


def test_hung_child_is_killed_and_restarted(tmp_path: Path, messages: Messages) -> None:
    """Runs four children: one suspends itself (SIGSTOP), one deadlocks after a heartbeat, one works, one never beats.

    The first two must be killed and restarted, because a hung process does not end; the others must continue.
    """
    policy = RestartPolicy(first_delay_s=0.05, max_delay_s=0.1, hang_timeout_s=3)
    supervisor = Supervisor(tmp_path / "logs", messages, policy=policy)
    try:
        supervisor.start(
            program(name, source)
            for name, source in (("pauses", PAUSES), ("deadlocks", DEADLOCKS), ("works", WORKS), ("silent", WAITS))
        )
        for name in ("pauses", "deadlocks"):
            wait_for(lambda name=name: supervisor.status()[name].restarts, 30)  # type: ignore[misc]  # its default
            assert messages.has(f"{name}: hangs")
            assert messages.has(f"{name}: was killed by signal 9")
        assert {supervisor.status()[name].restarts for name in ("works", "silent")} == {0}
    finally:
        supervisor.close()
