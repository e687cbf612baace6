"""The three classes of failure, which decide what happens to a job."""


class StageError(Exception):
    """Base of what a stage raises on purpose."""


class RetryableError(StageError):
    """May work later: time-outs, 408, 425, 429, 5xx, a store that is away. The default for unknown exceptions too."""


class ProviderOutageError(RetryableError):
    """The provider is away altogether: every job would fail, so the stage waits and no attempt is counted."""


class QuotaError(StageError):
    """A limit that waiting does not clear (storage full at the provider): free space, then retry."""


class PermanentError(StageError):
    """Will never work with this input or these settings (400, 401, broken audio): straight to the dead letters."""
