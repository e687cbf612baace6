"""A commit that hangs, and one that waits for a log that is away."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redpanda.client import answers
from redpanda.commit_watchdog import CommitWatchdog
from tests.conftest import StartServer, kafka_settings

LIMIT_S = 0.3
SOON_S = 20.0


class Seen:
    """What came of a wait, and whether the log answers, which a test says."""

    def __init__(self) -> None:
        self.log_is_there = threading.Event()
        self.ended, self.alive = threading.Event(), threading.Semaphore(0)

    @contextmanager
    def patience(self) -> Iterator[CommitWatchdog]:
        watched = CommitWatchdog(
            self.log_is_there.is_set,
            self.alive.release,
            limit_s=LIMIT_S,
            look_every_s=LIMIT_S / 10,
            on_hang=self.ended.set,
        )
        try:
            yield watched
        finally:
            watched.stop()


def test_who_waits_for_a_log_that_answers_others_is_ended_after_the_limit() -> None:
    """A commit does not come back while the log answers: that client will never have its answer."""
    seen = Seen()
    seen.log_is_there.set()
    with seen.patience() as patience:
        began = time.monotonic()
        with patience:
            assert seen.ended.wait(SOON_S)
        assert time.monotonic() - began >= LIMIT_S


def test_who_waits_for_a_log_that_is_away_lives_on_and_says_so() -> None:
    """A commit waits for many times the limit because the log is away: ending would help nobody, and would be repeated
    for as long as it is. Once the log is back the limit counts from then."""
    seen = Seen()
    with seen.patience() as patience, patience:
        for _ in range(30):  # one every tenth of the limit
            assert seen.alive.acquire(timeout=SOON_S)
        assert not seen.ended.is_set()
        back = time.monotonic()
        seen.log_is_there.set()
        assert seen.ended.wait(SOON_S)
        assert time.monotonic() - back >= LIMIT_S / 2  # it was last seen away at most a look before it was back


def test_commits_that_come_back_never_add_up() -> None:
    """Commits one after the other for several times the limit, each much shorter: nothing happens."""
    seen = Seen()
    seen.log_is_there.set()
    with seen.patience() as patience:
        until = time.monotonic() + 3 * LIMIT_S
        while time.monotonic() < until:
            with patience:
                assert not seen.ended.wait(LIMIT_S / 5)
    assert not seen.ended.is_set()


def test_a_log_answers_unless_it_hangs_or_is_gone(start_server: StartServer) -> None:
    """A real log, stopped (SIGSTOP) so that connections stand but nothing comes back, and going on again."""
    log = start_server("log")
    kafka = kafka_settings(log)
    assert answers(kafka)
    log.pause()
    assert not answers(kafka, timeout_s=0.5)
    log.resume()
    assert answers(kafka)
    log.kill()
    assert not answers(kafka, timeout_s=0.5)
