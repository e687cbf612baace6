"""Stages as the services put them together, over stores and providers whose calls are steps of a worker.

The one place that names handlers and their parts: the tests beside it only see events, orders, lines and objects.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial

from pydantic import SecretStr

from core.settings import (
    GeminiSettings,
    OpenAiSettings,
    PricingSettings,
    QdrantSettings,
    S3Settings,
    Settings,
    SonioxSettings,
    SummarySettings,
)
from pipelines.embed.handler import EmbedHandler
from pipelines.erase.handler import EraseHandler
from pipelines.jobs.remote_orders import Timing
from pipelines.jobs.stage_record import IdempotentStage
from pipelines.providers.extractive.summarizer import Extractive
from pipelines.providers.gemini.embedder import GeminiEmbedder
from pipelines.providers.gemini.summarizer import GeminiSummarizer
from pipelines.providers.openai.transcriber import OpenAi
from pipelines.providers.soniox.transcriber import Soniox
from pipelines.replay.app import HandlerCache
from pipelines.runtime.dead_letters import discard_audio
from pipelines.runtime.stage import Handler
from pipelines.stages import EMBED, SUMMARIZE, TRANSCRIBE
from pipelines.summarize.handler import SummarizeHandler
from pipelines.transcribe.handler import TranscribeHandler
from pipelines.transcribe.metrics import TranscriptMetrics
from schemas.artifacts import call_prefix
from schemas.events import Event, ReplayOverrides, ReplayStage
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore
from tests.fakes import gemini as gemini_rules
from tests.fakes import openai as openai_rules
from tests.fakes import soniox_rules
from tests.fakes.gemini import FakeGemini
from tests.fakes.openai import FakeOpenAi
from tests.fakes.soniox import FakeSoniox
from tests.pipelines.guarantees.workers import MakeWork, Steps

TIMING = Timing(order_s=0.2, settle_s=0.05, poll_s=0.01, slowest_poll_s=0.05)
USUAL = PricingSettings(price_per_summary="0.01", price_per_embedding="0.02")
DEARER = PricingSettings(price_per_unit="7", price_per_summary="7", price_per_embedding="7", soniox_per_hour="7")


class _SonioxThatShowsLate(Soniox):
    """An account whose list of orders lags behind."""

    async def find(self, key: str) -> str | None:
        await super().find(key)
        return None


def soniox_transcriber(
    server: FakeSoniox,
    s3: S3Settings,
    pricing: PricingSettings = USUAL,
    *,
    by_url: bool = False,
    shows_orders: bool = True,
) -> MakeWork:
    """A live transcriber that orders there. by_url: the provider fetches the audio from object storage. shows_orders:
    whether the provider shows an order to who asks for it by our key."""

    def make(steps: Steps) -> IdempotentStage[Event]:
        objects = steps.watch(ObjectStore(s3))
        settings = SonioxSettings(base_url=server.url)
        client = Soniox if shows_orders else _SonioxThatShowsLate
        jobs = steps.watch(client(settings, soniox_rules.KEY, objects=objects if by_url else None))
        work = TranscribeHandler(jobs, objects, pricing, TIMING)
        return IdempotentStage(TRANSCRIBE.group, work, objects)  # type: ignore[arg-type]

    return make


def openai_transcriber(
    server: FakeOpenAi,
    s3: S3Settings,
    pricing: PricingSettings = USUAL,
    *,
    prompt: str | None = None,
) -> MakeWork:
    """A live transcriber whose server answers at once. prompt: makes it another configuration."""

    def make(steps: Steps) -> IdempotentStage[Event]:
        objects = steps.watch(ObjectStore(s3))
        settings = OpenAiSettings(base_url=server.url, api_key=SecretStr(openai_rules.KEY), prompt=prompt)
        engine = steps.watch(OpenAi(settings, timeout_s=10))
        return IdempotentStage(TRANSCRIBE.group, TranscribeHandler(engine, objects, pricing), objects)  # type: ignore[arg-type]

    return make


def gemini_summarizer(
    server: FakeGemini,
    s3: S3Settings,
    pricing: PricingSettings = USUAL,
    *,
    model: str = gemini_rules.SUMMARIZERS[0],
) -> MakeWork:
    """A live summarizer that is paid by the token."""

    def make(steps: Steps) -> IdempotentStage[Event]:
        objects = steps.watch(ObjectStore(s3))
        settings = GeminiSettings(base_url=server.url, summary_model=model)
        engine = GeminiSummarizer(settings, SummarySettings(max_prompt_tokens=500), gemini_rules.KEY)
        steps.watch_only(engine, "generate")
        return IdempotentStage(SUMMARIZE.group, SummarizeHandler(engine, objects, pricing), objects)  # type: ignore[arg-type]

    return make


def gemini_embedder(
    server: FakeGemini, s3: S3Settings, qdrant: QdrantSettings, pricing: PricingSettings = USUAL
) -> MakeWork:
    """A live embedder that is paid by the token."""

    def make(steps: Steps) -> IdempotentStage[Event]:
        objects = steps.watch(ObjectStore(s3))
        vectors = steps.watch(VectorStore(qdrant))
        settings = GeminiSettings(base_url=server.url, embedding_dimension=128)
        engine = steps.watch(GeminiEmbedder(settings, gemini_rules.KEY, 10))
        work = EmbedHandler(engine, objects, vectors, pricing)
        return IdempotentStage(EMBED.group, work, objects)  # type: ignore[arg-type]

    return make


def extractive_summarizer(s3: S3Settings, pricing: PricingSettings) -> MakeWork:
    """A live summarizer that costs nothing."""

    def make(steps: Steps) -> IdempotentStage[Event]:
        objects = steps.watch(ObjectStore(s3))
        return IdempotentStage(SUMMARIZE.group, SummarizeHandler(Extractive(), objects, pricing), objects)  # type: ignore[arg-type]

    return make


def replay(settings: Settings, stage: ReplayStage) -> MakeWork:
    """What a replay from that stage on does first, with the engines that the service makes of the settings."""

    def make(steps: Steps) -> Handler[Event]:
        objects = steps.watch(ObjectStore(settings.s3))
        work = HandlerCache(settings, objects, TranscriptMetrics("replay"))(stage, ReplayOverrides())
        if stage == "recording":
            return work.transcribe  # type: ignore[return-value]
        return work.embed if stage == "embedding" else work.summarize  # type: ignore[return-value]

    return make


def erasure(settings: Settings, server: FakeSoniox) -> MakeWork:
    """The erasure of calls whose orders are at that provider."""

    def make(steps: Steps) -> Handler[Event]:
        jobs = steps.watch(Soniox(SonioxSettings(base_url=server.url), soniox_rules.KEY))
        return EraseHandler(  # type: ignore[return-value]
            steps.watch(CallStore(settings.clickhouse)),
            steps.watch(ReplayStore(settings.clickhouse)),
            steps.watch(ObjectStore(settings.s3)),
            steps.watch(VectorStore(settings.qdrant)),
            lambda: jobs,
            discard_audio=partial(discard_audio, settings.kafka),
        )

    return make


def kept_of(objects: ObjectStore, event: Event) -> Mapping[str, bytes]:
    """Everything that lies in object storage of the event's call."""
    keys = list(objects.list(call_prefix(event.tenant, event.call_id)))
    return {key: objects.get(key) for key in keys}


def shape(keys: Iterable[str]) -> list[str]:
    """Objects' keys without the ids in them, which differ from call to call: two calls that were processed alike have
    the same."""
    return sorted(re.sub(r"CA[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32,64}", "*", key) for key in keys)
