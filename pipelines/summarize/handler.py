"""transcript.ready → summary.ready and, unless it is free, usage.recorded: the summary of a call."""

import time
from collections.abc import Sequence

from core.settings import PricingSettings, Settings
from pipelines.billing.charge_policy import ChargePolicy
from pipelines.billing.pricing import Charge, token_charge
from pipelines.billing.usage_lines import usage_line
from pipelines.jobs import documents
from pipelines.jobs.documents import Document
from pipelines.jobs.job_record import JobDocument, JobRecord
from pipelines.jobs.stage_record import IdempotentStage, StageRecord
from pipelines.providers import registry
from pipelines.providers.base import Summarizer, SummaryJob, config_hash_for
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.stage import Output, Stage
from pipelines.stages import SUMMARIZE
from schemas.artifacts import Summary, Transcript, summary_key
from schemas.events import ObjectRef, SummaryReady, TranscriptReady
from schemas.ids import job_key, uuid_of
from schemas.topics import Topic
from schemas.usage_keys import UsageKey, UsageKind
from sinks.object_store import ObjectStore


class SummarizeHandler:
    """Handler of one transcript. A stored summary is not made again."""

    def __init__(
        self,
        provider: Summarizer,
        objects: ObjectStore,
        pricing: PricingSettings,
        *,
        live: bool = True,
    ) -> None:
        """Connects to nothing. live: False for replays."""
        self._provider = provider
        self._objects = objects
        self._pricing = pricing
        self._charges = ChargePolicy(SUMMARIZE.group, objects, pricing, live=live)
        self._hash_for = config_hash_for(provider)

    async def __call__(
        self, event: TranscriptReady, stage_record: Document[StageRecord] | None = None
    ) -> Sequence[Output]:
        """Returns the summary's event, and its ledger line unless it is free. Raises pipelines.runtime.errors."""
        summary_id = job_key(
            tenant=event.tenant,
            call_id=event.call_id,
            stage=SUMMARIZE.group,
            input_sha256=event.transcript.sha256,
            config_hash=self._hash_for(event.tenant),
        )
        key = UsageKey(UsageKind.SUMMARY, summary_id)
        record = JobDocument(self._objects, event.tenant, event.call_id, summary_id)
        result = Document(self._objects, summary_key(event.tenant, event.call_id, summary_id), Summary)
        engine_ms = 0  # of this attempt: a result that is found cost nothing now
        summary = await result.get()
        found = summary is not None
        if summary is None:
            transcript = await documents.fetch(self._objects, event.transcript, Transcript)
            started = time.monotonic()
            summary = await self._provider.summarize(SummaryJob(event.tenant, transcript, record))
            engine_ms = round((time.monotonic() - started) * 1000)
        model = summary.model
        charge = await record.charge(
            lambda job: self._charges(event, key, self._usual_charge(job, model), stage_record)
        )
        if not found:
            summary = await result.put_if_absent(summary)
        outputs = [Output(Topic.SUMMARY_READY, self._ready(event, summary_id, summary, result.ref, engine_ms))]
        if charge is not None:
            line = usage_line(
                event, key, charge, self._hash_for(event.tenant), provider=summary.provider, model=summary.model
            )
            outputs.append(Output(Topic.USAGE_RECORDED, line))
        return outputs

    def _usual_charge(self, job: JobRecord, model: str) -> Charge | None:
        return token_charge(job.spent(), model, self._pricing.price_per_summary, self._pricing)

    def _ready(
        self, event: TranscriptReady, summary_id: str, summary: Summary, ref: ObjectRef, engine_ms: int
    ) -> SummaryReady:
        return SummaryReady(
            event_id=uuid_of("summary.ready", event.tenant, event.call_id, event.part, summary_id),
            call_id=event.call_id,
            tenant=event.tenant,
            part=event.part,
            occurred_at_ms=time.time_ns() // 1_000_000,
            config_hash=self._hash_for(event.tenant),
            transcript_id=event.transcript_id,
            summary=ref,
            provider=summary.provider,
            model=summary.model,
            engine_ms=engine_ms,
            call_started_at_ms=event.call_started_at_ms,
            **summary.content,
        )


def run(settings: Settings) -> None:
    """Runs the service until SIGTERM or SIGINT. Raises SettingsError."""
    objects = ObjectStore(settings.s3)
    handler = SummarizeHandler(registry.summarizer(settings), objects, settings.pricing)
    run_stage(
        settings,
        Stage(
            name=SUMMARIZE.group,
            source=SUMMARIZE.source,
            retry=SUMMARIZE.retry_topic,
            event_type=TranscriptReady,
            handler=IdempotentStage(SUMMARIZE.group, handler, objects),
            concurrency=settings.summary.concurrency,
            timeout_s=settings.summary.timeout_s,
            per_minute=settings.summary.per_minute,
        ),
    )
