"""Decides how a job continues after a failed attempt. Pure.

The runtime writes a failed job to the stage's retry topic, with the number of its attempts and its due time, and marks
its offset on the source topic as done. The schedule survives restarts because it is on the log, and a job that waits
ten minutes blocks no offset behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.runtime.errors import PermanentError, QuotaError, RetryableError, RetryLaterError
from redpanda.client import EventTooLargeError

ErrorClass = Literal["retry", "quota", "permanent"]

_MAX_RETRY_AFTER_S = 3_600.0  # a longer Retry-After is a mistake of the provider, and would block a call without end


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Schedules the job again.

    Attributes:
        delay_s: Seconds until the job is due.
        attempts: Failed attempts that the schedule records.
    """

    delay_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Turns the job into a dead letter."""

    error_class: ErrorClass
    attempts: int


def classify(error: BaseException) -> ErrorClass:
    """Returns the class of an exception. An unknown exception may pass, so it is retried."""
    if isinstance(error, (PermanentError, EventTooLargeError)):
        return "permanent"
    if isinstance(error, QuotaError):
        return "quota"
    return "retry"


def decide(error: BaseException, failed: int, delays_s: Sequence[float]) -> TryAgain | GiveUp:
    """Returns the next step after an attempt failed with `error`.

    Args:
        error: Error of the attempt.
        failed: Number of attempts that failed before.
        delays_s: Delay after each failed attempt. The provider's Retry-After takes precedence if it is longer.
    """
    retry_after_s = 0.0
    if isinstance(error, RetryableError) and error.retry_after_s is not None:
        retry_after_s = min(max(error.retry_after_s, 0.0), _MAX_RETRY_AFTER_S)
    if isinstance(error, RetryLaterError):
        return TryAgain(retry_after_s, failed)
    attempts = failed + 1
    error_class = classify(error)
    if error_class == "permanent" or attempts > len(delays_s):
        return GiveUp(error_class, attempts)
    return TryAgain(max(delays_s[attempts - 1], retry_after_s), attempts)


def describe(error: BaseException) -> str:
    """Returns one readable line: the exception's name, and its text if there is one (time-outs have none)."""
    text = str(error).strip().replace("\n", " ")
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:2000]
