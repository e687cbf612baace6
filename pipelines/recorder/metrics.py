"""Metrics of the recorder."""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry

from core import metrics
from redpanda.consumer_monitor import ConsumerMonitor
from schemas.events import RecordingReady, TrackReport


class RecorderMetrics(ConsumerMonitor):
    """Metrics of the recorder. core.metrics describes each of them."""

    def __init__(self, stage: str, registry: CollectorRegistry | None = None) -> None:
        super().__init__(stage, registry)
        self.finish_failures = metrics.FINISH_FAILURES.on(self.registry)
        self._open_calls = metrics.OPEN_CALLS.on(self.registry)
        self._closed = metrics.CLOSED_CALLS.on(self.registry)
        self._unfinished = metrics.UNFINISHED.on(self.registry)
        self._recorded = metrics.RECORDED.on(self.registry)
        self._recorded_ms = metrics.RECORDED_MS.on(self.registry)
        self._gap_ms = metrics.GAP_MS.on(self.registry)
        self._disk_free = metrics.SPOOL_FREE.on(self.registry)
        self._rebuilding = metrics.REBUILDING.on(self.registry)

    def watch(
        self,
        *,
        open_calls: Callable[[], int],
        unfinished: Callable[[], int],
        rebuilding: Callable[[], int],
        directory: Path,
    ) -> None:
        """Registers the functions that return current values when metrics are read. directory: on the spool's disk."""
        self._open_calls.set_function(open_calls)
        self._unfinished.set_function(unfinished)
        self._rebuilding.set_function(rebuilding)
        self._disk_free.set_function(lambda: float(shutil.disk_usage(directory).free))

    def closed(self, reason: str) -> None:
        """Counts a closed part by its reason."""
        self._closed.labels(reason).inc()

    def recorded(self, event: RecordingReady, tracks: Iterable[TrackReport]) -> None:
        """Counts a recording that the log has acknowledged. tracks: with all their gaps."""
        self._recorded.inc()
        self.latency.observe(max(0.0, time.time() - event.occurred_at_ms / 1000))
        for track in tracks:
            self._recorded_ms.inc(track.audio_ms)
            for gap in track.gaps:
                self._gap_ms.labels(gap.reason).inc(gap.end_ms - gap.start_ms)
