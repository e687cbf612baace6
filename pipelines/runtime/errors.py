"""The classes of failure, which decide what happens to a job."""


class StageError(Exception):
    """Base of what a stage raises on purpose."""


class RetryableError(StageError):
    """May work later: time-outs, 408, 425, 429, 5xx, a store that is away. The default for unknown exceptions too.

    retry_after_s: the provider's own wish (Retry-After), seconds; the schedule waits no less. refused: the provider
    said no before it did anything (429, a connection refused), so that asking again at once cannot pay twice; where
    nobody knows whether it took the request (a time-out, a connection lost, 5xx), it stays False.
    """

    def __init__(self, message: str = "", *, retry_after_s: float | None = None, refused: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.refused = refused


class BilledFailureError(RetryableError):
    """The provider did its work and it came to nothing: its answer is none, or could not be kept. It is not away, and
    another attempt pays again, so each of them counts."""


class ProviderOutageError(RetryableError):
    """The provider is away altogether (no connection, 503): every job would fail, so the stage waits and no attempt
    is counted."""


class RetryLaterError(RetryableError):
    """Nothing failed, but the job must not go on before `retry_after_s`: no attempt is counted, nobody is blamed."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class QuotaError(StageError):
    """A limit that waiting does not clear (storage full at the provider): free space, then retry."""


class PermanentError(StageError):
    """Will never work with this input or these settings (400, 401, broken audio): straight to the dead letters."""
