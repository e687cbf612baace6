"""Tests of the commit watchdog: a hung commit, and a commit that waits for an unavailable log."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redpanda.client import is_reachable
from redpanda.commit_watchdog import CommitWatchdog
from tests.conftest import StartServer, kafka_settings

LIMIT_S = 0.3
SOON_S = 20.0


class Observed:
    """Effects of a watchdog, and the state of the log, which a test sets."""

    def __init__(self) -> None:
        self.log_is_reachable = threading.Event()
        self.ended, self.beats = threading.Event(), threading.Semaphore(0)

    @contextmanager
    def watchdog(self) -> Iterator[CommitWatchdog]:
        """Runs a watchdog with a short timeout."""
        watchdog = CommitWatchdog(
            self.log_is_reachable.is_set,
            self.beats.release,
            timeout_s=LIMIT_S,
            check_interval_s=LIMIT_S / 10,
            on_hang=self.ended.set,
        )
        try:
            yield watchdog
        finally:
            watchdog.stop()


def test_hung_commit_ends_the_process_after_the_timeout() -> None:
    """Waits in a commit while the log answers other clients: the process must end, because no answer will come."""
    observed = Observed()
    observed.log_is_reachable.set()
    with observed.watchdog() as watchdog:
        began = time.monotonic()
        with watchdog:
            assert observed.ended.wait(SOON_S)
        assert time.monotonic() - began >= LIMIT_S


def test_unavailable_log_does_not_end_the_process() -> None:
    """Waits in a commit for many times the timeout while the log is unavailable, then makes the log reachable.

    Meanwhile the watchdog must beat and must not end the process, because a new process would wait as well. When the
    log is reachable again, the timeout starts anew.
    """
    observed = Observed()
    with observed.watchdog() as watchdog, watchdog:
        for _ in range(30):  # one beat per tenth of the timeout
            assert observed.beats.acquire(timeout=SOON_S)
        assert not observed.ended.is_set()
        reachable_s = time.monotonic()
        observed.log_is_reachable.set()
        assert observed.ended.wait(SOON_S)
        assert time.monotonic() - reachable_s >= LIMIT_S / 2  # the last failed check was up to one interval earlier


def test_durations_of_commits_do_not_add_up() -> None:
    """Runs short commits for several times the timeout: the process must not end."""
    observed = Observed()
    observed.log_is_reachable.set()
    with observed.watchdog() as watchdog:
        until = time.monotonic() + 3 * LIMIT_S
        while time.monotonic() < until:
            with watchdog:
                assert not observed.ended.wait(LIMIT_S / 5)
    assert not observed.ended.is_set()


def test_is_reachable_notices_a_hung_and_a_killed_log(start_server: StartServer) -> None:
    """Checks a real log while it runs, is suspended (SIGSTOP, so connections stay open), runs again, and is killed."""
    log = start_server("log")
    kafka = kafka_settings(log)
    assert is_reachable(kafka)
    log.pause()
    assert not is_reachable(kafka, timeout_s=0.5)
    log.resume()
    assert is_reachable(kafka)
    log.kill()
    assert not is_reachable(kafka, timeout_s=0.5)
