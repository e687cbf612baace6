"""Watchdog for commits: distinguishes a hung commit (end the process) from an unavailable log (keep waiting).

librdkafka can wait forever for a group coordinator that no longer exists, whatever timeout it is given
(https://github.com/confluentinc/librdkafka/issues/5456 and 5511), although the log has already chosen another one. Only
a new process helps then. If the log is unavailable, a new process would wait just as long.
"""

import faulthandler
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from core import process
from core.settings import KafkaSettings
from redpanda.client import is_reachable

logger = logging.getLogger(__name__)

COMMIT_TIMEOUT_S = 40.0
"""Longest time for a commit while the log answers other clients.

A commit takes milliseconds, or seconds if a broker is being replaced.
"""

CHECK_INTERVAL_S = 5.0


class CommitWatchdog:
    """Context manager around a commit: `with watchdog: consumer.commit(...)`. One thread enters at a time."""

    def __init__(
        self,
        log_is_reachable: Callable[[], bool],
        beat: Callable[[], None],
        *,
        timeout_s: float | None = None,
        check_interval_s: float | None = None,
        on_hang: Callable[[], None] | None = None,
    ) -> None:
        """Starts the watching thread.

        log_is_reachable: returns True if the log answers another client; may take seconds. beat: the heartbeat, invoked
        while the log does not answer. on_hang: replaces the default, which prints the stack trace of every thread and
        ends the process with exit code 1.
        """
        self._log_is_reachable = log_is_reachable
        self._beat = beat
        self._timeout_s = COMMIT_TIMEOUT_S if timeout_s is None else timeout_s
        self._check_interval_s = CHECK_INTERVAL_S if check_interval_s is None else check_interval_s
        self._on_hang = on_hang or _dump_and_exit
        self._since: float | None = None  # monotonic start of the current commit
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="commit-watchdog", daemon=True).start()

    @classmethod
    def for_log(cls, kafka: KafkaSettings, beat: Callable[[], None]) -> "CommitWatchdog":
        """Returns a watchdog that checks this log."""
        return cls(partial(is_reachable, kafka), beat)

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None

    def stop(self) -> None:
        """Ends the watching thread soon."""
        self._stopped.set()

    def _watch(self) -> None:
        unreachable_until = float("-inf")
        while not self._stopped.wait(self._check_interval_s):
            since = self._since
            if since is None or time.monotonic() - since < self._check_interval_s:
                continue
            if not self._log_is_reachable():
                unreachable_until = time.monotonic()
                self._beat()
            elif time.monotonic() - max(since, unreachable_until) >= self._timeout_s and self._since == since:
                logger.critical(
                    "the log answers, but has not finished a commit for %.0f s; this process ends so that a new one "
                    "can start",
                    time.monotonic() - since,
                )
                self._on_hang()
                return


def _dump_and_exit() -> None:
    faulthandler.dump_traceback(all_threads=True)
    process.exit_now(1)
