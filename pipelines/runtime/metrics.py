"""Metrics of a slow stage."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from core import metrics
from pipelines.runtime.errors import ProviderOutageError, RetryLaterError
from pipelines.runtime.retry import classify, describe
from redpanda.consumer_monitor import ConsumerMonitor

_MAX_FAILURES = 3
_ERROR_LENGTH = 300


class StageMetrics(ConsumerMonitor):
    """Metrics of one stage. core.metrics describes each of them."""

    def __init__(self, stage: str, registry: CollectorRegistry | None = None) -> None:
        super().__init__(stage, registry)
        self._attempts = metrics.ATTEMPTS.on(self.registry)
        self._retries = metrics.RETRIES.on(self.registry)
        self._attempt_seconds = metrics.ATTEMPT_SECONDS.on(self.registry).labels(stage)
        self._running = metrics.RUNNING.on(self.registry).labels(stage)
        self._held = metrics.JOBS_HELD.on(self.registry).labels(stage)
        self._provider_away = metrics.PROVIDER_UNAVAILABLE.on(self.registry).labels(stage)
        self._succeeded = False
        # Number of failures in a row and the error of the last one. One tuple, because another thread reads it.
        self._failures: tuple[int, str] = (0, "")

    def watch(self, *, held: Callable[[], int], provider_away: Callable[[], bool]) -> None:
        """Registers the functions that return current values whenever the metrics are read."""
        self._held.set_function(held)
        self._provider_away.set_function(lambda: float(provider_away()))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Measures the attempt that runs inside the block."""
        with self._running.track_inprogress(), self._attempt_seconds.time():
            yield

    def record_attempt(self, error: BaseException | None = None) -> None:
        """Counts an attempt by its result. error: None if it succeeded."""
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
        """Returns `failing` if three attempts in a row failed, or all attempts since the start; else nothing.

        A single call that fails among calls that succeed is not a failure of the stage.
        """
        in_a_row, error = self._failures
        if in_a_row == 0 or (self._succeeded and in_a_row < _MAX_FAILURES):
            return {}
        return {"failing": {"in_a_row": in_a_row, "error": error}}

    def record_retry(self, error: BaseException) -> None:
        """Counts a job that is scheduled again after this error."""
        if not isinstance(error, RetryLaterError):
            self._retries.labels(self.stage, classify(error)).inc()
