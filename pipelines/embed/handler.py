"""transcript.ready → vectors of the speaker turns in Qdrant, embedding.ready and, unless it is free, usage.recorded.

After that a call can be found by its meaning.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from core.settings import PricingSettings, Settings
from pipelines.billing.charge_policy import ChargePolicy
from pipelines.billing.pricing import Charge, token_charge
from pipelines.billing.usage_lines import usage_line
from pipelines.embed.chunking import Chunk, chunks_of
from pipelines.jobs import documents
from pipelines.jobs.documents import Document
from pipelines.jobs.job_record import JobDocument, JobRecord
from pipelines.jobs.result_cache import PendingResults
from pipelines.jobs.stage_record import IdempotentStage, StageRecord
from pipelines.providers import registry
from pipelines.providers.base import Embedded, Embedder, UnusableResponseError
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.errors import PermanentError, RetryableError
from pipelines.runtime.stage import Output, Stage
from pipelines.stages import EMBED
from schemas.artifacts import Transcript
from schemas.events import NO_TOKENS, EmbeddingReady, TranscriptReady
from schemas.ids import config_hash, job_key, uuid_of
from schemas.topics import Topic
from schemas.usage_keys import UsageKey, UsageKind
from sinks.object_store import ObjectStore
from sinks.qdrant.store import Point, Turn, VectorStore, VectorStoreError, VectorStoreRefusedError, collection_of

logger = logging.getLogger(__name__)

_PENDING = 64  # batches of vectors kept until Qdrant takes them: at most 1.2 MB each
_AT_ONCE = 100  # chunks embedded and written together: Gemini's limit per request


@dataclass(slots=True)
class _Pending:
    """Vectors that are not stored yet. counted: their tokens are in the job's record."""

    embedded: Embedded
    counted: bool = False


class EmbedHandler:
    """Handler of one transcript. Points have deterministic ids: repeated work writes the same points."""

    def __init__(
        self,
        provider: Embedder,
        objects: ObjectStore,
        vectors: VectorStore,
        pricing: PricingSettings,
        *,
        live: bool = True,
    ) -> None:
        """Connects to nothing. live: False for replays."""
        self._provider = provider
        self._objects = objects
        self._vectors = vectors
        self._pricing = pricing
        self._charges = ChargePolicy(EMBED.group, objects, pricing, live=live)
        self._collection = collection_of(provider.model, provider.dimension)
        self._config_hash = config_hash(provider.config())
        self._pending: PendingResults[_Pending] = PendingResults(_PENDING)  # by the first point's id

    async def __call__(
        self, event: TranscriptReady, stage_record: Document[StageRecord] | None = None
    ) -> Sequence[Output]:
        """Returns the event that the call is searchable, and its ledger line unless it is free.

        Raises pipelines.runtime.errors.
        """
        transcript = await documents.fetch(self._objects, event.transcript, Transcript)
        embedding_id = job_key(
            tenant=event.tenant,
            call_id=event.call_id,
            stage=EMBED.group,
            input_sha256=event.transcript.sha256,
            config_hash=self._config_hash,
        )
        record = JobDocument(self._objects, event.tenant, event.call_id, embedding_id)
        chunks = chunks_of(transcript)
        engine_ms = 0  # of this attempt: vectors that are found cost nothing now
        for start in range(0, len(chunks), _AT_ONCE):
            engine_ms += await self._embed(event, start, chunks[start : start + _AT_ONCE], record)
        ready = EmbeddingReady(
            event_id=uuid_of(
                "embedding.ready", event.tenant, event.call_id, event.part, event.transcript_id, self._config_hash
            ),
            call_id=event.call_id,
            tenant=event.tenant,
            part=event.part,
            occurred_at_ms=time.time_ns() // 1_000_000,
            config_hash=self._config_hash,
            transcript_id=event.transcript_id,
            provider=self._provider.name,
            model=self._provider.model,
            collection=self._collection,
            dimension=self._provider.dimension,
            points=len(chunks),
            engine_ms=engine_ms,
            call_started_at_ms=event.call_started_at_ms,
        )
        outputs = [Output(Topic.EMBEDDING_READY, ready)]
        key = UsageKey(UsageKind.EMBEDDING, embedding_id)
        charge = await record.charge(lambda job: self._charges(event, key, self._usual_charge(job), stage_record))
        if charge is not None:
            line = usage_line(
                event, key, charge, self._config_hash, provider=self._provider.name, model=self._provider.model
            )
            outputs.append(Output(Topic.USAGE_RECORDED, line))
        return outputs

    async def _embed(self, event: TranscriptReady, start: int, chunks: Sequence[Chunk], record: JobDocument) -> int:
        """Writes the points of these chunks unless they are stored. Returns the time the engine took, ms."""
        ids = [
            uuid_of(event.tenant, event.call_id, event.part, event.transcript_id, start + index)
            for index in range(len(chunks))
        ]
        with _translate_vector_store_errors():
            if await asyncio.to_thread(self._vectors.has_points, self._collection, ids, self._config_hash):
                return 0
        started = time.monotonic()
        first = ids[0]
        try:
            pending = await self._pending.get(first, lambda: self._request([chunk.text for chunk in chunks]))
        except UnusableResponseError as error:
            await record.count_wasted(error.tokens)
            raise
        engine_ms = round((time.monotonic() - started) * 1000)
        if pending.embedded.tokens != NO_TOKENS and not pending.counted:
            # Before the points: a worker that finds them sends no request and counts nothing.
            await record.save_step(f"chunks from {start}", "", pending.embedded.tokens)
            pending.counted = True
        points = [
            Point(id=point_id, vector=vector.tolist(), turn=_turn(event, chunk, self._config_hash))
            for point_id, chunk, vector in zip(ids, chunks, pending.embedded.vectors, strict=True)
        ]
        with _translate_vector_store_errors():
            await asyncio.to_thread(self._write, points)
        self._pending.stored(first)
        return engine_ms

    async def _request(self, texts: Sequence[str]) -> _Pending:
        return _Pending(await self._provider.embed(texts))

    def _usual_charge(self, job: JobRecord) -> Charge | None:
        return token_charge(job.spent(), self._provider.model, self._pricing.price_per_embedding, self._pricing)

    def _write(self, points: Sequence[Point]) -> None:
        # Every time: it takes a few milliseconds, and the collection may have been dropped while the service ran.
        self._vectors.ensure(self._collection, self._provider.dimension)
        self._vectors.upsert(self._collection, points)


def _turn(event: TranscriptReady, chunk: Chunk, config_hash: str) -> Turn:
    return Turn(
        tenant=event.tenant,
        call_id=event.call_id,
        part=event.part,
        transcript_id=event.transcript_id,
        start_ms=chunk.start_ms,
        end_ms=chunk.end_ms,
        channel=chunk.channel,
        speaker=chunk.speaker,
        text=chunk.text,
        config_hash=config_hash,
    )


@contextmanager
def _translate_vector_store_errors() -> Iterator[None]:
    """Turns the errors of the vector store into those of the runtime."""
    try:
        yield
    except VectorStoreRefusedError as error:
        raise PermanentError(f"vector store: {error}") from error
    except VectorStoreError as error:
        raise RetryableError(f"vector store: {error}") from error


def _copy_old_vectors(vectors: VectorStore) -> None:
    """Copies the vectors of older versions in the background. Searches find them afterwards."""
    try:
        for line in vectors.migrate():
            logger.info("vectors of an older version: %s", line)
    except VectorStoreError as error:
        logger.warning("vectors of an older version could not be copied, run `audiotext migrate`: %s", error)


def run(settings: Settings) -> None:
    """Runs the service until SIGTERM or SIGINT. Raises SettingsError."""
    provider = registry.embedder(settings)
    vectors = VectorStore(settings.qdrant)
    objects = ObjectStore(settings.s3)
    handler = EmbedHandler(provider, objects, vectors, settings.pricing)
    threading.Thread(target=_copy_old_vectors, args=(vectors,), name="migrate", daemon=True).start()
    registry.load_in_background(provider)
    run_stage(
        settings,
        Stage(
            name=EMBED.group,
            source=EMBED.source,
            retry=EMBED.retry_topic,
            event_type=TranscriptReady,
            handler=IdempotentStage(EMBED.group, handler, objects),
            concurrency=settings.embedding.concurrency,
            timeout_s=settings.embedding.timeout_s,
            per_minute=settings.embedding.per_minute,
        ),
    )
