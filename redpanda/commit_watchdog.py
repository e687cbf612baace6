"""Tells a question to the log that hangs from one that waits for a log that is away.

librdkafka can wait for ever for a group's coordinator that is gone, whatever time-out it is given
(https://github.com/confluentinc/librdkafka/issues/5456 and 5511), while the log has long got another one. Nothing but a
new process helps then. A log that is away is no reason for one: it would wait just as long.
"""

import faulthandler
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from core import process
from core.settings import KafkaSettings
from redpanda.client import answers

log = logging.getLogger(__name__)

LIMIT_S = 40.0
"""How long a commit may take while the log answers others. It takes milliseconds, or seconds if a broker has to be
replaced meanwhile."""

LOOK_EVERY_S = 5.0


class CommitWatchdog:
    """Goes around whatever waits for the log: `with patience: consumer.commit(...)`. One thread enters at a time."""

    def __init__(
        self,
        log_answers: Callable[[], bool],
        beat: Callable[[], None],
        *,
        limit_s: float | None = None,
        look_every_s: float | None = None,
        on_hang: Callable[[], None] | None = None,
    ) -> None:
        """Starts the thread that looks.

        log_answers: whether the log answers somebody else; may take seconds. beat: tells that this process lives, while
        the log does not answer. on_hang: instead of ending the process with exit code 1, after a traceback of every
        thread.
        """
        self._log_answers = log_answers
        self._beat = beat
        self._limit_s = LIMIT_S if limit_s is None else limit_s
        self._look_every_s = LOOK_EVERY_S if look_every_s is None else look_every_s
        self._on_hang = on_hang or _end
        self._since: float | None = None  # monotonic, while somebody waits
        self._stopped = threading.Event()
        threading.Thread(target=self._look, name="patience", daemon=True).start()

    @classmethod
    def with_log(cls, kafka: KafkaSettings, beat: Callable[[], None]) -> "CommitWatchdog":
        """Asks this log."""
        return cls(partial(answers, kafka), beat)

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None

    def stop(self) -> None:
        """Looks no more."""
        self._stopped.set()

    def _look(self) -> None:
        away_until = float("-inf")
        while not self._stopped.wait(self._look_every_s):
            since = self._since
            if since is None or time.monotonic() - since < self._look_every_s:
                continue
            if not self._log_answers():
                away_until = time.monotonic()
                self._beat()
            elif time.monotonic() - max(since, away_until) >= self._limit_s and self._since == since:
                log.critical(
                    "the log answers, but has not taken a commit for %.0f s; this process ends, so that another one "
                    "starts",
                    time.monotonic() - since,
                )
                self._on_hang()
                return


def _end() -> None:
    faulthandler.dump_traceback(all_threads=True)
    process.exit_now(1)
