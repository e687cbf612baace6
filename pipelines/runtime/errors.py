"""Classes of failure. The class of an error decides how its job continues."""


class StageError(Exception):
    """Base of the errors that a stage raises on purpose."""


class RetryableError(StageError):
    """A failure that may pass: a time-out, 408, 425, 429, 5xx, an unreachable store.

    The runtime treats unknown exceptions the same way.

    Attributes:
        retry_after_s: Delay that the provider requests (Retry-After), in seconds. The next attempt waits at least
            that long.
        refused: True if the provider rejected the request before it did any work (429, connection refused). A new
            request then cannot be paid twice. False if the provider may have accepted the request (a time-out, a
            lost connection, 5xx).
    """

    def __init__(self, message: str = "", *, retry_after_s: float | None = None, refused: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.refused = refused


class BilledFailureError(RetryableError):
    """The provider completed the work, but its response is unusable or could not be stored.

    The provider is reachable, so this is not an outage. Each further attempt is charged again, so every attempt
    counts.
    """


class ProviderOutageError(RetryableError):
    """The provider is unreachable (no connection, 503).

    Every job would fail, so the stage waits and counts no attempt.
    """


class RetryLaterError(RetryableError):
    """The job has not failed, but it must not continue before `retry_after_s`.

    It counts neither as an attempt nor as a failure of the provider.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class QuotaError(StageError):
    """A limit that waiting does not clear, such as full storage at the provider: free space, then retry."""


class PermanentError(StageError):
    """A failure that repeats with the same input and settings (400, 401, broken audio).

    The job becomes a dead letter at once.
    """
