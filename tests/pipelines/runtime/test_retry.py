"""The decision after a failed attempt."""

import pytest

from pipelines.runtime.errors import PermanentError, QuotaError, RetryableError, RetryLaterError
from pipelines.runtime.retry import GiveUp, TryAgain, decide

DELAYS_S = (1.0, 10.0)


@pytest.mark.parametrize(
    ("error", "failed", "decision"),
    [
        (RetryableError("503"), 0, TryAgain(1, 1)),
        (RetryableError("503"), 1, TryAgain(10, 2)),
        (RetryableError("503"), 2, GiveUp("retry", 3)),
        (TimeoutError(), 0, TryAgain(1, 1)),
        (KeyError("bug"), 0, TryAgain(1, 1)),
        (QuotaError("full"), 0, TryAgain(1, 1)),
        (QuotaError("full"), 2, GiveUp("quota", 3)),
        (PermanentError("401"), 0, GiveUp("permanent", 1)),
        (RetryableError("429", retry_after_s=30), 0, TryAgain(30, 1)),
        (RetryableError("429", retry_after_s=3), 1, TryAgain(10, 2)),
        (RetryableError("429", retry_after_s=30), 2, GiveUp("retry", 3)),
        (RetryableError("429", retry_after_s=1e9), 0, TryAgain(3_600, 1)),
        (RetryableError("429", retry_after_s=-5), 0, TryAgain(1, 1)),
        (RetryLaterError("wait", retry_after_s=30), 2, TryAgain(30, 2)),
    ],
)
def test_decide(error: Exception, failed: int, decision: object) -> None:
    """Fails with every class of error, early and late in the schedule.

    The delay must be that of the schedule or the provider's Retry-After, whichever is longer, up to a limit. An error
    that only asks to wait must not count as an attempt.
    """
    assert decide(error, failed, DELAYS_S) == decision
