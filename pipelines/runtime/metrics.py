"""What is counted of a slow stage."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from core import metrics
from pipelines.runtime.errors import ProviderOutageError, RetryLaterError
from pipelines.runtime.retry import classify, describe
from redpanda.consumer_monitor import ConsumerMonitor

_SUSPICIOUS = 3
_ERROR_LENGTH = 300


class StageMetrics(ConsumerMonitor):
    """See core.metrics."""

    def __init__(self, stage: str, registry: CollectorRegistry | None = None) -> None:
        super().__init__(stage, registry)
        self._attempts = metrics.ATTEMPTS.on(self.registry)
        self._retries = metrics.RETRIES.on(self.registry)
        self._attempt_seconds = metrics.ATTEMPT_SECONDS.on(self.registry).labels(stage)
        self._running = metrics.RUNNING.on(self.registry).labels(stage)
        self._held = metrics.JOBS_HELD.on(self.registry).labels(stage)
        self._provider_away = metrics.PROVIDER_UNAVAILABLE.on(self.registry).labels(stage)
        self._succeeded = False
        # Replaced as a whole, because another thread reads it.
        self._failures: tuple[int, str] = (0, "")  # consecutive failures, and the error of the last one

    def watch(self, *, held: Callable[[], int], provider_away: Callable[[], bool]) -> None:
        """Asks these whenever somebody looks."""
        self._held.set_function(held)
        self._provider_away.set_function(lambda: float(provider_away()))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around an attempt at a job."""
        with self._running.track_inprogress(), self._attempt_seconds.time():
            yield

    def attempted(self, error: BaseException | None = None) -> None:
        """What came of an attempt: it is done, or this error."""
        if error is None:
            result = "done"
        elif isinstance(error, ProviderOutageError):
            result = "outage"
        else:
            result = "not-yet" if isinstance(error, RetryLaterError) else "failed"
        self._attempts.labels(self.stage, result).inc()
        if error is None:
            self._succeeded, self._failures = True, (0, "")
        elif result != "not-yet":
            self._failures = (self._failures[0] + 1, describe(error)[:_ERROR_LENGTH])

    def health(self) -> Mapping[str, object]:
        """`failing` once attempts fail: three in a row, or all since the start. One call that cannot be done, among
        others that can, is not a failure of the stage."""
        in_a_row, error = self._failures
        if in_a_row == 0 or (self._succeeded and in_a_row < _SUSPICIOUS):
            return {}
        return {"failing": {"in_a_row": in_a_row, "error": error}}

    def put_aside(self, error: BaseException) -> None:
        """A failed attempt goes on the retry schedule."""
        if not isinstance(error, RetryLaterError):
            self._retries.labels(self.stage, classify(error)).inc()
