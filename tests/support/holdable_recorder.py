"""Recorder that a test can hold just before a commit, when everything it wrote is delivered.

It takes a commit for hung after seconds instead of most of a minute.
"""

import os
import time
from pathlib import Path
from typing import Any

from quixstreams.internal_producer import InternalProducer

from pipelines.recorder.app import run
from redpanda import commit_watchdog

__all__ = ["HELD", "LIMIT_S", "run"]

LIMIT_S = 5.0
HELD = "TEST_HELD_RECORDER"
"""The environment's variable with a path: while a file is there no commit begins, and `<path>.waits` is one that
waits."""

_commit = InternalProducer.commit_transaction


def _commit_when_let_go(*args: Any, **more: Any) -> None:
    hold = Path(os.environ[HELD])
    while hold.exists():
        hold.with_suffix(".waits").touch()
        time.sleep(0.01)
    _commit(*args, **more)


if HELD in os.environ:  # in the recorder's process only
    commit_watchdog.COMMIT_TIMEOUT_S, commit_watchdog.CHECK_INTERVAL_S = LIMIT_S, 0.5
    InternalProducer.commit_transaction = _commit_when_let_go  # type: ignore[method-assign]
