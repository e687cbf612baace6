"""What happens after a failed attempt. Pure: decides, does nothing.

A job that failed is put aside on the stage's retry topic, with the number of its attempts and the time it is due, and
its place on the source topic is done: the schedule survives restarts because it is on the log, and a job that waits
ten minutes holds up no offset behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.runtime.errors import PermanentError, QuotaError, RetryableError, RetryLaterError
from redpanda.client import EventTooLargeError

ErrorClass = Literal["retry", "quota", "permanent"]

_LONGEST_WISH_S = 3_600.0  # a Retry-After beyond is a mistake, and would hold a call back for ever


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Put the job aside for `delay_s` seconds. attempts: what then counts as failed."""

    delay_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Send the job to the dead letters."""

    error_class: ErrorClass
    attempts: int


def classify(error: BaseException) -> ErrorClass:
    """The class of an exception. What nobody classified may well work later, so it is retried."""
    if isinstance(error, (PermanentError, EventTooLargeError)):
        return "permanent"
    if isinstance(error, QuotaError):
        return "quota"
    return "retry"


def decide(error: BaseException, failed: int, delays_s: Sequence[float]) -> TryAgain | GiveUp:
    """What to do after an attempt failed with `error`, before which `failed` had. The schedule's delay, or what the
    provider asks for if that is longer."""
    wish_s = 0.0
    if isinstance(error, RetryableError) and error.retry_after_s is not None:
        wish_s = min(max(error.retry_after_s, 0.0), _LONGEST_WISH_S)
    if isinstance(error, RetryLaterError):
        return TryAgain(wish_s, failed)
    attempts = failed + 1
    error_class = classify(error)
    if error_class == "permanent" or attempts > len(delays_s):
        return GiveUp(error_class, attempts)
    return TryAgain(max(delays_s[attempts - 1], wish_s), attempts)


def describe(error: BaseException) -> str:
    """One line for people: the exception's text, or its name where it has none (as time-outs do)."""
    text = str(error).strip().replace("\n", " ")
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:2000]
