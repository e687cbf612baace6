"""Service `replayer`: plans replays, runs their jobs and erases calls, at the lowest CPU priority."""

import logging
import os
from functools import partial
from pathlib import Path
from threading import Lock

from core import work_directory
from core.settings import Settings
from pipelines.embed.handler import EmbedHandler
from pipelines.erase import handler as erase_handler
from pipelines.providers import registry
from pipelines.providers.base import RemoteJobs
from pipelines.recorder.media_topic import read_calls
from pipelines.replay import planner
from pipelines.replay.live_priority import LivePriorityGate
from pipelines.replay.overrides import overridden
from pipelines.replay.rerecord import RecordingRebuilder
from pipelines.replay.worker import ReplayHandler, StageHandlers
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.dead_letters import discard_audio
from pipelines.runtime.stage import Stage
from pipelines.stages import ENGINE_STAGES, ERASE, REPLAY, REPLAY_PLAN
from pipelines.summarize.handler import SummarizeHandler
from pipelines.transcribe.handler import TranscribeHandler
from pipelines.transcribe.metrics import TranscriptMetrics
from redpanda.client import EventProducer
from schemas.events import ErasureRequested, ReplayCommand, ReplayJob, ReplayOverrides, ReplayStage
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore

logger = logging.getLogger(__name__)

_LOWEST_PRIORITY = 19
_CACHED = 2  # settings whose handlers are kept in memory


class HandlerCache:
    """Cache of the stages' handlers for each replay's settings, created on first use. Thread-safe."""

    def __init__(
        self, settings: Settings, objects: ObjectStore, metrics: TranscriptMetrics, work: Path | None = None
    ) -> None:
        """work: directory for temporary files, by default the system's."""
        self._settings = settings
        self._work = work
        self._metrics = metrics
        self._objects = objects
        self._vectors = VectorStore(settings.qdrant)
        self._lock = Lock()
        self._made: dict[tuple[str, ReplayOverrides], StageHandlers] = {}

    def __call__(self, stage: ReplayStage, overrides: ReplayOverrides) -> StageHandlers:
        """Returns the handlers of replays from that stage with these overrides. Raises OverrideError, SettingsError."""
        key = ("recording" if stage == "media" else stage, overrides)
        with self._lock:
            if key not in self._made:
                while len(self._made) >= _CACHED:
                    del self._made[next(iter(self._made))]
                self._made[key] = self._make(overridden(self._settings, stage, overrides))
            return self._made[key]

    def _make(self, settings: Settings) -> StageHandlers:
        return StageHandlers(
            transcribe=TranscribeHandler(
                registry.speech_to_text(settings),
                self._objects,
                settings.pricing,
                live=False,
                metrics=self._metrics,
                work=self._work,
            ),
            summarize=SummarizeHandler(registry.summarizer(settings), self._objects, settings.pricing, live=False),
            embed=EmbedHandler(registry.embedder(settings), self._objects, self._vectors, settings.pricing, live=False),
        )


def run(settings: Settings) -> None:
    """Runs the service until it is stopped.

    Raises SettingsError, StoreUnavailableError if a store is not configured, LogUnavailableError.
    """
    os.nice(max(0, _LOWEST_PRIORITY - os.nice(0)))
    objects, store = ObjectStore(settings.s3), ReplayStore(settings.clickhouse)
    calls = CallStore(settings.clickhouse)
    work = work_directory.create(settings.data_dir / "replayer")
    metrics = TranscriptMetrics(REPLAY.group)
    read_log = partial(read_calls, settings.kafka)
    live = {spec.group: spec.source for spec in ENGINE_STAGES.values()}
    run_stage(
        settings,
        Stage(
            name=REPLAY.group,
            source=REPLAY.source,
            retry=REPLAY.retry_topic,
            event_type=ReplayJob,
            handler=ReplayHandler(
                HandlerCache(settings, objects, metrics, work),
                RecordingRebuilder(settings.kafka, objects, work / "rebuilt", read_log),
                objects,
                store,
                calls,
            ),
            concurrency=settings.replay.concurrency,
            timeout_s=settings.replay.timeout_s,
            per_minute=settings.replay.per_minute,
            replays=True,
            registry=metrics.registry,
            admission=LivePriorityGate(settings.kafka, live),
        ),
        Stage(
            name=REPLAY_PLAN.group,
            source=REPLAY_PLAN.source,
            retry=REPLAY_PLAN.retry_topic,
            event_type=ReplayCommand,
            handler=planner.PlanHandler(calls, store, objects, EventProducer(settings.kafka)),
            concurrency=1,
            timeout_s=settings.replay.timeout_s,
            replays=True,
        ),
        Stage(
            name=ERASE.group,
            source=ERASE.source,
            retry=ERASE.retry_topic,
            event_type=ErasureRequested,
            handler=erase_handler.EraseHandler(
                calls,
                store,
                objects,
                VectorStore(settings.qdrant),
                partial(_remote_jobs, settings),
                discard_audio=partial(discard_audio, settings.kafka),
            ),
            concurrency=2,
            timeout_s=settings.replay.timeout_s,
        ),
    )


def _remote_jobs(settings: Settings) -> RemoteJobs | None:
    """Returns the speech-to-text provider if it works by asynchronous orders, else None. Raises SettingsError."""
    provider = registry.speech_to_text(settings)
    return provider if isinstance(provider, RemoteJobs) else None
