"""What happens after a failed attempt. Pure: decides, does nothing.

A job that failed is put aside on the stage's retry topic, with the number of its attempts and the time it is due, and
its place on the source topic is done: the schedule survives restarts because it is on the log, and a job that waits
ten minutes holds up no offset behind it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.runtime.errors import PermanentError, QuotaError

ErrorClass = Literal["retry", "quota", "permanent"]


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Put the job aside for `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Send the job to the dead letters."""

    error_class: ErrorClass


def classify(error: BaseException) -> ErrorClass:
    """The class of an exception. What nobody classified may well work later, so it is retried."""
    if isinstance(error, PermanentError):
        return "permanent"
    if isinstance(error, QuotaError):
        return "quota"
    return "retry"


def decide(error: BaseException, attempts: int, delays_s: Sequence[float]) -> TryAgain | GiveUp:
    """What to do after the `attempts`-th attempt (from 1) failed with `error`."""
    error_class = classify(error)
    if error_class == "permanent" or attempts > len(delays_s):
        return GiveUp(error_class)
    return TryAgain(delays_s[attempts - 1])


def describe(error: BaseException) -> str:
    """One line for people: the exception's text, or its name where it has none (as time-outs do)."""
    text = str(error).strip().replace("\n", " ")
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:2000]


def now_ms() -> int:
    """Wall clock, ms since the epoch."""
    return time.time_ns() // 1_000_000
