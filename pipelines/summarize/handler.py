"""transcript.ready → summary.ready and, where it cost something, usage.recorded: the call in short."""

import time
from collections.abc import Sequence

from core.settings import PricingSettings, Settings
from pipelines.billing.charge_policy import ChargeOncePolicy
from pipelines.billing.pricing import Charge, Charges, token_charge
from pipelines.jobs import documents
from pipelines.jobs.llm_steps import StepStore
from pipelines.jobs.outbox import IdempotentStage
from pipelines.providers import registry
from pipelines.providers.base import Summarizer, SummaryJob, config_hash_for
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.stage import Output, Stage
from schemas.artifacts import Summary, Transcript, llm_steps_key, summary_charge_key, summary_key
from schemas.events import ObjectRef, SummaryReady, TranscriptReady, UsageRecorded
from schemas.ids import job_key, uuid_of
from schemas.topics import Topic
from sinks.object_store import ObjectStore

NAME = "summarize"


class SummarizeHandler:
    """The work on one transcript. A summary that is there is not made again."""

    def __init__(
        self,
        provider: Summarizer,
        objects: ObjectStore,
        pricing: PricingSettings,
        *,
        charges: Charges | None = None,
    ) -> None:
        """charges: what the customer pays, if not the usual."""
        self._provider = provider
        self._objects = objects
        self._pricing = pricing
        self._charges = charges or ChargeOncePolicy(objects, pricing)
        self._hash_for = config_hash_for(provider)

    async def __call__(self, event: TranscriptReady) -> Sequence[Output]:
        """The summary's event, and its ledger line if it costs anything. Raises pipelines.runtime.errors."""
        summary_id = job_key(
            tenant=event.tenant,
            call_id=event.call_id,
            stage=NAME,
            input_sha256=event.transcript.sha256,
            config_hash=self._hash_for(event.tenant),
        )
        key = summary_key(event.tenant, event.call_id, summary_id)
        answers = StepStore(self._objects, llm_steps_key(event.tenant, event.call_id, summary_id))
        engine_ms = 0  # of this attempt: a result that is found cost nothing now
        result = await documents.get_result(self._objects, key, Summary)
        if result is None:
            transcript = await documents.fetch(self._objects, event.transcript, Transcript)
            started = time.monotonic()
            summary = await self._provider.summarize(SummaryJob(event.tenant, transcript, answers))
            engine_ms = round((time.monotonic() - started) * 1000)
            result = await documents.store_result(self._objects, key, summary)
        summary = result.content
        outputs = [Output(Topic.SUMMARY_READY, self._ready(event, summary_id, summary, result.ref, engine_ms))]
        charge = await self._charge(event, summary_id, summary, answers)
        if charge is not None:
            outputs.append(Output(Topic.USAGE_RECORDED, self._usage(event, summary_id, summary, charge)))
        return outputs

    async def _charge(
        self, event: TranscriptReady, summary_id: str, summary: Summary, answers: StepStore
    ) -> Charge | None:
        """What it costs. Prices may change before this is told again: the first ones stand."""
        tokens = (await answers.read()).spent()
        charge = token_charge(tokens, summary.model, self._pricing.price_per_summary, self._pricing)
        charge = await self._charges(event, f"summary_{summary_id}", charge)
        if charge is None:
            return None
        return await documents.put_if_absent(
            self._objects, summary_charge_key(event.tenant, event.call_id, summary_id), charge
        )

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
            abstract=summary.abstract,
            key_points=summary.key_points,
            action_items=summary.action_items,
            engine_ms=engine_ms,
            call_started_at_ms=event.call_started_at_ms,
            topics=summary.topics,
            actions=summary.actions,
            sentiment=summary.sentiment,
            outcome=summary.outcome,
            fields=summary.fields,
        )

    def _usage(self, event: TranscriptReady, summary_id: str, summary: Summary, charge: Charge) -> UsageRecorded:
        """The ledger line: all of it follows from the transcript and the charge, so that telling it again tells the
        same."""
        key = f"summary_{summary_id}"
        return UsageRecorded(
            event_id=uuid_of("usage.recorded", key),
            call_id=event.call_id,
            tenant=event.tenant,
            part=event.part,
            occurred_at_ms=event.occurred_at_ms,
            config_hash=self._hash_for(event.tenant),
            key=key,
            kind="summary",
            units=charge.units,
            duration_ms=event.duration_ms,
            provider=summary.provider,
            model=summary.model,
            provider_cost=charge.provider_cost,
            price=charge.price,
            currency=charge.currency,
            call_started_at_ms=event.call_started_at_ms,
            tokens=charge.tokens,
        )


def run(settings: Settings) -> None:
    """The service: blocks until it is told to end. Raises SettingsError."""
    objects = ObjectStore(settings.s3)
    handler = SummarizeHandler(registry.summarizer(settings), objects, settings.pricing)
    run_stage(
        settings,
        Stage(
            name=NAME,
            source=Topic.TRANSCRIPT_READY,
            retry=Topic.SUMMARIZE_RETRY,
            event_type=TranscriptReady,
            handler=IdempotentStage(NAME, handler, objects),
            concurrency=settings.summary.concurrency,
            timeout_s=settings.summary.timeout_s,
            per_minute=settings.summary.per_minute,
        ),
    )
