"""The real stages on real stores, without a log between them: each event goes straight to its next reader.

Calls are processed and replayed there.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from core.settings import Settings
from pipelines import analytics
from pipelines.embed.handler import EmbedHandler
from pipelines.providers.base import SpeechToText
from pipelines.providers.extractive.summarizer import Extractive
from pipelines.replay.planner import PlanHandler
from pipelines.replay.rerecord import RecordingRebuilder
from pipelines.replay.selection import Selection, choose
from pipelines.replay.service import ReplayService
from pipelines.replay.worker import ReplayHandler, StageHandlers
from pipelines.runtime.stage import Output
from pipelines.summarize.handler import SummarizeHandler
from pipelines.transcribe.handler import TranscribeHandler
from redpanda.client import EventProducer
from schemas.events import (
    AnyEvent,
    Event,
    RecordingReady,
    ReplayCommand,
    ReplayJob,
    ReplayOverrides,
    ReplayStage,
    TranscriptReady,
    UsageRecorded,
)
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.rows import Row, ledger_row
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore
from tests.api.conftest import WordEmbedder
from tests.replay.fake_stt_service import FakeStt
from tests.support.call_events import Call
from tests.support.pipeline_events import recording


@dataclass
class _Collector:
    """Collects what a service would put on the log."""

    events: list[Event] = field(default_factory=list)

    async def send_async(self, topic: str, events: Sequence[Event]) -> None:
        self.events += events


class Installation:
    """The stages of an installation. model: of its speech to text; a replay may use another one."""

    def __init__(self, settings: Settings, words: WordEmbedder, model: str = "base") -> None:
        self.settings = settings
        self.model = model
        self.database = Database(settings.clickhouse)
        self.calls, self.replays = CallStore(settings.clickhouse), ReplayStore(settings.clickhouse)
        self.objects, self.vectors, self.words = ObjectStore(settings.s3), VectorStore(settings.qdrant), words
        self._segments = analytics.SegmentReader(self.objects)
        self.desk = ReplayService(self.emit, self.objects, self.replays)

    def emit(self, topic: str, events: Sequence[Event]) -> None:
        """Stores events like analytics and the ledger do."""
        self.keep(cast(Sequence[AnyEvent], events))

    def keep(self, events: Iterable[AnyEvent]) -> None:
        """Stores events like analytics and the ledger do."""
        rows: list[Row] = []
        for event in events:
            if isinstance(event, UsageRecorded):
                rows.append(ledger_row(event))
            elif not isinstance(event, ReplayJob):
                rows += [*analytics.rows(event), *self._segments.rows(event)]
        self.database.insert(rows)

    def process(self, tenant: str, call_id: str, duration_ms: int) -> None:
        """Records, transcribes, summarizes and embeds a call."""
        event = self.record(tenant, call_id, duration_ms)
        asyncio.run(self._process(event))

    def record(self, tenant: str, call_id: str, duration_ms: int) -> RecordingReady:
        """Records a call."""
        event = recording(self.objects, call_id, call_id.encode(), duration_ms, tenant=tenant)
        self.keep([Call(call_id, tenant, event.started_at_ms).started(), event])
        return event

    async def _process(self, event: RecordingReady) -> None:
        work = self._work(FakeStt(self.model), live=True)
        outputs = list(await work.transcribe(event))
        transcript = next(one.event for one in outputs if isinstance(one.event, TranscriptReady))
        outputs += await work.summarize(transcript)
        outputs += await work.embed(transcript)
        self.keep(cast(AnyEvent, one.event) for one in outputs)

    def replay(
        self,
        call_ids: Sequence[str],
        *,
        stage: ReplayStage = "recording",
        model: str | None = None,
        keep_current: bool = False,
        engine: SpeechToText | None = None,
    ) -> str:
        """Replays calls to the end and returns the id of the replay. engine: replaces the one of the model."""
        replay_id = self.start(call_ids, stage=stage, model=model, keep_current=keep_current)
        self.work(self.plan(replay_id), engine)
        return replay_id

    def start(
        self,
        call_ids: Sequence[str],
        *,
        stage: ReplayStage = "recording",
        model: str | None = None,
        keep_current: bool = False,
    ) -> str:
        """Requests a replay."""
        chosen = choose(self.calls, Selection(call_ids=tuple(call_ids)), stage)
        overrides = ReplayOverrides(model=model)
        return self.desk.start(chosen, stage, overrides, tenant=None, keep_current=keep_current)

    def plan(self, replay_id: str) -> list[ReplayJob]:
        """Plans the latest run of the replay and returns its jobs."""
        commands: list[ReplayCommand] = self.replays.commands(None, replay_id=replay_id)[replay_id]
        told = _Collector()
        handler = PlanHandler(self.calls, self.replays, self.objects, cast(EventProducer, told))
        asyncio.run(_planned(handler, max(commands, key=lambda command: command.run)))
        self.emit("", told.events)
        return [event for event in told.events if isinstance(event, ReplayJob)]

    def work(self, jobs: Iterable[ReplayJob], engine: SpeechToText | None = None) -> None:
        """Runs the jobs."""

        def make(stage: ReplayStage, overrides: ReplayOverrides) -> StageHandlers:
            return self._work(engine or FakeStt(overrides.model or self.model), live=False)

        handler = ReplayHandler(make, cast(RecordingRebuilder, None), self.objects, self.replays, self.calls)
        for job in jobs:
            outputs = asyncio.run(_done(handler, job))
            self.keep(cast(AnyEvent, one.event) for one in outputs)

    def call(self, call_id: str, tenant: str) -> CallDoc:
        """Returns the current document of the call."""
        found = self.calls.get_call(call_id, tenant)
        assert found is not None
        return found

    def current_model(self, call_id: str, tenant: str) -> str:
        """Returns the model of the call's current transcript."""
        transcript = self.call(call_id, tenant).parts[0].transcript
        assert transcript is not None
        return transcript.model

    def _work(self, engine: SpeechToText, *, live: bool) -> StageHandlers:
        pricing = self.settings.pricing
        return StageHandlers(
            transcribe=TranscribeHandler(engine, self.objects, pricing, live=live),
            summarize=SummarizeHandler(Extractive(), self.objects, pricing, live=live),
            embed=EmbedHandler(self.words, self.objects, self.vectors, pricing, live=live),
        )


async def _planned(handler: PlanHandler, command: ReplayCommand) -> None:
    await handler(command)


async def _done(handler: ReplayHandler, job: ReplayJob) -> Sequence[Output]:
    return await handler(job)
