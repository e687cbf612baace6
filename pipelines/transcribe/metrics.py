"""Metrics of transcripts."""

from prometheus_client import CollectorRegistry

from core import metrics
from schemas.artifacts import Transcript


class TranscriptMetrics:
    """Counts the stretches whose text is omitted. stage: consumer group that makes the transcripts."""

    def __init__(self, stage: str) -> None:
        self.registry = CollectorRegistry()
        self._stage = stage
        self._stretches = metrics.OMITTED.on(self.registry)
        self._ms = metrics.OMITTED_MS.on(self.registry)

    def record(self, transcript: Transcript) -> None:
        """Counts the omitted stretches of a new transcript."""
        for one in transcript.omitted:
            self._stretches.labels(self._stage, one.reason).inc()
            self._ms.labels(self._stage, one.reason).inc(one.end_ms - one.start_ms)
