"""transcript.ready → summary.ready: the call in short."""

import time
from collections.abc import Sequence

from audiotext.settings import Settings
from pipelines import claims
from pipelines.providers import Summarizer, registry
from pipelines.runtime.runner import run_stage
from pipelines.runtime.stage import Output, Stage
from schemas.artifacts import Summary, Transcript, summary_key
from schemas.events import SummaryReady, TranscriptReady
from schemas.ids import config_hash, job_key, uuid_of
from schemas.topics import Topic
from sinks.objects import ObjectStore

NAME = "summarize"


class SummarizeHandler:
    """The work on one transcript. A summary that is there is not made again."""

    def __init__(self, provider: Summarizer, objects: ObjectStore) -> None:
        self._provider = provider
        self._objects = objects
        self._config_hash = config_hash(provider.config())

    async def __call__(self, event: TranscriptReady) -> Sequence[Output]:
        """The summary's event. Raises pipelines.runtime.errors."""
        summary_id = job_key(
            tenant=event.tenant,
            call_id=event.call_id,
            stage=NAME,
            input_sha256=event.transcript.sha256,
            config_hash=self._config_hash,
        )
        key = summary_key(event.tenant, event.call_id, summary_id)
        engine_ms = 0  # of this attempt: a result that is found cost nothing now
        ref = await claims.find(self._objects, key)
        if ref is not None:
            summary = await claims.fetch(self._objects, ref, Summary)
        else:
            transcript = await claims.fetch(self._objects, event.transcript, Transcript)
            started = time.monotonic()
            summary = await self._provider.summarize(transcript)
            engine_ms = round((time.monotonic() - started) * 1000)
            ref = await claims.leave(self._objects, key, summary)
        ready = SummaryReady(
            event_id=uuid_of("summary.ready", event.tenant, event.call_id, event.part, summary_id),
            call_id=event.call_id,
            tenant=event.tenant,
            part=event.part,
            occurred_at_ms=time.time_ns() // 1_000_000,
            config_hash=self._config_hash,
            transcript_id=event.transcript_id,
            summary=ref,
            provider=summary.provider,
            model=summary.model,
            abstract=summary.abstract,
            key_points=summary.key_points,
            action_items=summary.action_items,
            engine_ms=engine_ms,
            call_started_at_ms=event.call_started_at_ms,
        )
        return [Output(Topic.SUMMARY_READY, ready)]


def run(settings: Settings) -> None:
    """The service: blocks until it is told to end. Raises SettingsError."""
    handler = SummarizeHandler(registry.summarizer(settings), ObjectStore(settings.s3))
    run_stage(
        settings,
        Stage(
            name=NAME,
            source=Topic.TRANSCRIPT_READY,
            retry=Topic.SUMMARIZE_RETRY,
            event_type=TranscriptReady,
            handler=handler,
            concurrency=settings.summary.concurrency,
            timeout_s=settings.summary.timeout_s,
        ),
    )
