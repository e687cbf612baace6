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

_ROOT = Path(__file__).parents[2]
QUICK = RestartPolicy(first_delay_s=0.05, max_delay_s=0.2, healthy_s=30, early_s=5, hopeless_after=3)

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


class Told:
    """What the supervisor said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def has(self, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in self.lines)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def supervisor(tmp_path: Path, told: Told) -> Iterator[Supervisor]:
    running = Supervisor(tmp_path / "logs", told, policy=QUICK)
    yield running
    running.close()


def pid_of(supervisor: Supervisor, name: str) -> int:
    wait_for(lambda: supervisor.status()[name].pid and "up" in supervisor.log_path(name).read_text())
    pid = supervisor.status()[name].pid
    assert pid is not None
    return pid


def test_a_killed_child_is_started_again_and_it_is_said(supervisor: Supervisor, told: Told) -> None:
    """What does this test do? Kills a child with SIGKILL and waits for its successor.

    A service that the out-of-memory killer took must come back by itself, and somebody must be told.
    """
    supervisor.start([program("dummy", WAITS)])
    first = pid_of(supervisor, "dummy")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: supervisor.status()["dummy"].pid not in (None, first))
    assert supervisor.status()["dummy"].restarts == 1
    assert told.has("dummy", "killed by signal 9", "started again")


def test_a_child_that_never_comes_up_says_where_its_log_is(supervisor: Supervisor, told: Told) -> None:
    """After three deaths in a row the user gets the child's last words and the path of its log, once."""
    supervisor.start([program("dummy", FAILS)])
    wait_for(lambda: supervisor.status()["dummy"].restarts >= 4)
    hopeless = [line for line in told.lines if "does not stay up" in line]
    assert len(hopeless) == 1
    assert "no such setting" in hopeless[0]
    assert str(supervisor.log_path("dummy")) in hopeless[0]
    assert supervisor.status()["dummy"].hopeless


REFUSES = "import sys\nprint('audiotext: no key', file=sys.stderr)\nsys.exit(2)"


def test_a_child_that_refuses_to_run_is_not_started_again(tmp_path: Path) -> None:
    """What does this test do? Runs a child that ends with the exit code of a user's mistake, and, as one that is not
    ours and may end like that for anything, a second.

    Started again and again it would fail for ever, while `audiotext up` says that all is well; now the first is told
    with its reason, which it wrote just before its end.
    """
    said, refused = Told(), Told()
    supervisor = Supervisor(tmp_path / "logs", said, policy=QUICK, refused=refused)
    try:
        supervisor.start([replace(program("service", REFUSES), refuses=2), program("server", REFUSES)])
        wait_for(lambda: refused.lines and supervisor.status()["server"].restarts >= 2)
        assert refused.lines == ["service cannot run: no key"]
        assert supervisor.status()["service"] == Status("service", None, 0, hopeless=False)
        assert not said.has("service")
    finally:
        supervisor.close()


def test_a_child_that_ran_before_is_started_again_whatever_it_says(tmp_path: Path) -> None:
    """A child runs, is killed, and then refuses to run, as one does while somebody edits audiotext.toml: calls are live
    in its neighbours, which must not be ended for it."""
    refused = Told()
    once = tmp_path / "once"
    source = f"from pathlib import Path\nif Path({str(once)!r}).exists(): raise SystemExit(2)\n{WAITS}"
    supervisor = Supervisor(tmp_path / "logs", Told(), policy=QUICK, refused=refused)
    try:
        supervisor.start([replace(program("dummy", source), refuses=2)])
        first = pid_of(supervisor, "dummy")
        once.touch()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: supervisor.status()["dummy"].restarts >= 3)
        assert refused.lines == []
    finally:
        supervisor.close()


def test_a_command_that_is_not_there_is_a_failure_like_others(supervisor: Supervisor, told: Told) -> None:
    """A missing program must not end the supervisor's thread, and the others with it."""
    supervisor.start([Program("gone", ("/no/such/program",), {}), program("dummy", WAITS)])
    pid_of(supervisor, "dummy")
    wait_for(lambda: told.has("gone", "cannot be started"))


def test_warnings_reach_the_terminal_and_the_rest_the_file(supervisor: Supervisor, told: Told) -> None:
    """WARNING and worse are shown with the service's name; everything is in its log."""
    supervisor.start([program("dummy", WARNS)])
    wait_for(lambda: told.has("dummy: WARNING hot"))
    assert not told.has("fine")
    assert "INFO dummy fine" in supervisor.log_path("dummy").read_text()


def test_children_are_ended_together(supervisor: Supervisor) -> None:
    """SIGTERM goes to all of a group at once; none is started again."""
    supervisor.start(program(f"dummy{number}", WAITS) for number in range(3))
    pids = [pid_of(supervisor, f"dummy{number}") for number in range(3)]
    assert supervisor.stop(["dummy0", "dummy1", "dummy2"], lambda: 5.0) == []
    assert not any(alive(pid) for pid in pids)
    time.sleep(3 * QUICK.first_delay_s)
    assert all(status.pid is None for status in supervisor.status().values())


def test_who_does_not_end_is_killed_at_the_deadline(supervisor: Supervisor) -> None:
    """A child that ignores SIGTERM holds nothing up longer than its time, and is named."""
    supervisor.start([program("stubborn", IGNORES_SIGTERM), program("dummy", WAITS)])
    pid, _ = pid_of(supervisor, "stubborn"), pid_of(supervisor, "dummy")
    deadline = time.monotonic() + 0.3
    assert supervisor.stop(["stubborn", "dummy"], lambda: deadline - time.monotonic()) == ["stubborn"]
    assert time.monotonic() < deadline + 1.0
    assert not alive(pid)


def test_a_second_ctrl_c_shortens_the_wait(supervisor: Supervisor) -> None:
    """The time to wait is asked for again and again: hurrying works while the wait is on."""
    supervisor.start([program("stubborn", IGNORES_SIGTERM)])
    pid_of(supervisor, "stubborn")
    hurry = threading.Event()
    threading.Timer(0.2, hurry.set).start()
    began = time.monotonic()
    supervisor.stop(["stubborn"], lambda: 0.0 if hurry.is_set() else 60.0)
    assert time.monotonic() - began < 5.0


def test_a_child_waiting_for_its_restart_is_not_started_after_stop(supervisor: Supervisor, told: Told) -> None:
    """Stopping while a child is down must not bring it back up a moment later."""
    supervisor.start([program("dummy", FAILS)])
    wait_for(lambda: told.has("started again"))
    supervisor.stop(["dummy"], lambda: 5.0)
    restarts = supervisor.status()["dummy"].restarts
    time.sleep(3 * QUICK.max_delay_s)
    assert supervisor.status()["dummy"].restarts == restarts


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """What does this test do? Runs a supervisor in a process of its own, kills that, and looks for the child.

    Without it, a killed `audiotext up` would leave services behind that hold the ports and write into the data.
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
    """Back-off: never shorter than the first delay, never longer than the limit, and not shrinking."""
    policy = RestartPolicy()
    assert policy.first_delay_s <= policy.delay_s(failures) <= policy.max_delay_s
    assert policy.delay_s(failures) <= policy.delay_s(failures + 1)
    assert [policy.delay_s(number) for number in (1, 2, 3, 10)] == [0.2, 0.4, 0.8, 10.0]


def test_a_healthy_life_is_a_new_start() -> None:
    """A service that dies once a day must come back in 0.2 s each time, not in 10 s after a fortnight."""
    policy = RestartPolicy()
    failures = Failures()
    for _ in range(20):
        failures = failures.after(1.0, policy)
    assert failures == Failures(20, 20)
    assert failures.after(31.0, policy) == Failures(1, 0)
    assert failures.after(15.0, policy) == Failures(21, 0)


def test_a_large_log_makes_room_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs must not fill the disk over months: at its child's start a large one becomes NAME.log.1."""
    monkeypatch.setattr(supervisor_module, "_LOG_LIMIT", 100)
    path = tmp_path / "dummy.log"
    path.write_text("old\n" * 100)
    LogFile(path)
    assert path.read_text() == ""
    assert (tmp_path / "dummy.log.1").read_text().startswith("old")


def test_only_whole_lines_are_read(tmp_path: Path) -> None:
    """A line that is still being written is read once it is whole; the linker's noise is left out."""
    log = LogFile(tmp_path / "dummy.log")
    with log.path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert log.new_lines() == ["one"]
        file.write("o\nx: weak version `GLIBC_2.39' not found\n")
        file.flush()
        assert log.new_lines() == ["two"]
        assert log.new_lines() == []


def test_a_killed_supervisor_takes_its_children_with_it(tmp_path: Path) -> None:
    """A supervisor in a process of its own is killed; its child, which ignores SIGTERM as one does that waits for
    something else which is ending, is gone all the same. If it stayed, it would hold the data directory, and the
    stack could not be started again before somebody found it."""
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


def test_a_child_that_hangs_is_killed_and_started_again(tmp_path: Path, told: Told) -> None:
    """What does this test do? One child stops itself (SIGSTOP), one deadlocks after its loop has come round, one works,
    and one never tells anything, as servers that are not ours do.

    The first two would sit there for ever, their calls with them, since a process that hangs does not end; the others
    must be left alone.
    """
    policy = RestartPolicy(first_delay_s=0.05, max_delay_s=0.1, hangs_s=3)
    supervisor = Supervisor(tmp_path / "logs", told, policy=policy)
    try:
        supervisor.start(
            program(name, source)
            for name, source in (("pauses", PAUSES), ("deadlocks", DEADLOCKS), ("works", WORKS), ("silent", WAITS))
        )
        for name in ("pauses", "deadlocks"):
            wait_for(lambda name=name: supervisor.status()[name].restarts, 30)  # type: ignore[misc]  # its default
            assert told.has(f"{name}: hangs")
            assert told.has(f"{name}: killed by signal 9")
        assert {supervisor.status()[name].restarts for name in ("works", "silent")} == {0}
    finally:
        supervisor.close()
