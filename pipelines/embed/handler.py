"""transcript.ready → vectors of the speaker turns in Qdrant, embedding.ready and, where it cost something,
usage.recorded: the call can be found by meaning."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from core.settings import PricingSettings, Settings
from pipelines.billing.charge_policy import ChargeOncePolicy
from pipelines.billing.pricing import Charge, Charges, token_charge
from pipelines.embed.chunking import Chunk, chunks_of
from pipelines.jobs import documents
from pipelines.jobs.llm_steps import StepStore
from pipelines.jobs.outbox import IdempotentStage
from pipelines.jobs.result_cache import PendingResults
from pipelines.providers import registry
from pipelines.providers.base import Embedded, Embedder, UnusableResponseError
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.errors import PermanentError, RetryableError
from pipelines.runtime.stage import Output, Stage
from schemas.artifacts import Transcript, embedding_answers_key, embedding_charge_key
from schemas.events import NO_TOKENS, EmbeddingReady, TranscriptReady, UsageRecorded
from schemas.ids import config_hash, job_key, uuid_of
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from sinks.qdrant.store import Point, Turn, VectorStore, VectorStoreError, VectorStoreRefusedError, collection_of

_log = logging.getLogger(__name__)

NAME = "embed"
_UNSTORED = 64  # requests' vectors kept until Qdrant takes them: at most 1.2 MB each
_AT_ONCE = 100  # pieces embedded and written together: the most that Gemini takes in a request


class EmbedHandler:
    """The work on one transcript. Points have deterministic ids: done again, the same points are written."""

    def __init__(
        self,
        provider: Embedder,
        objects: ObjectStore,
        vectors: VectorStore,
        pricing: PricingSettings,
        *,
        charges: Charges | None = None,
    ) -> None:
        """charges: what the customer pays, if not the usual."""
        self._provider = provider
        self._objects = objects
        self._vectors = vectors
        self._pricing = pricing
        self._charges = charges or ChargeOncePolicy(objects, pricing)
        self._collection = collection_of(provider.model, provider.dimension)
        self._config_hash = config_hash(provider.config())
        # Both by the first point's id.
        self._unstored: PendingResults[Embedded] = PendingResults(_UNSTORED)
        self._counted: PendingResults[None] = PendingResults(_UNSTORED)

    async def __call__(self, event: TranscriptReady) -> Sequence[Output]:
        """The event that says the call is searchable, and its ledger line if that costs anything. Raises
        pipelines.runtime.errors."""
        transcript = await documents.fetch(self._objects, event.transcript, Transcript)
        embedding_id = job_key(
            tenant=event.tenant,
            call_id=event.call_id,
            stage=NAME,
            input_sha256=event.transcript.sha256,
            config_hash=self._config_hash,
        )
        answers = StepStore(self._objects, embedding_answers_key(event.tenant, event.call_id, embedding_id))
        pieces = chunks_of(transcript)
        engine_ms = 0  # of this attempt: what is found cost nothing now
        for start in range(0, len(pieces), _AT_ONCE):
            engine_ms += await self._embed(event, start, pieces[start : start + _AT_ONCE], answers)
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
            points=len(pieces),
            engine_ms=engine_ms,
            call_started_at_ms=event.call_started_at_ms,
        )
        outputs = [Output(Topic.EMBEDDING_READY, ready)]
        charge = await self._charge(event, embedding_id, answers)
        if charge is not None:
            outputs.append(Output(Topic.USAGE_RECORDED, self._usage(event, embedding_id, charge)))
        return outputs

    async def _embed(self, event: TranscriptReady, start: int, pieces: Sequence[Chunk], answers: StepStore) -> int:
        """Writes the points of these pieces unless they are there. Returns what the engine took, ms."""
        ids = [
            uuid_of(event.tenant, event.call_id, event.part, event.transcript_id, start + index)
            for index in range(len(pieces))
        ]
        with _classified():
            if await asyncio.to_thread(self._vectors.has_points, self._collection, ids, self._config_hash):
                return 0
        started = time.monotonic()
        first = ids[0]
        try:
            embedded = await self._unstored.get(first, lambda: self._provider.embed([piece.text for piece in pieces]))
        except UnusableResponseError as error:
            await answers.count_wasted(error.tokens)
            raise
        engine_ms = round((time.monotonic() - started) * 1000)
        if embedded.tokens != NO_TOKENS:
            # Before the points: those who find them do not ask again.
            await self._counted.get(first, lambda: answers.save(f"pieces from {start}", "", embedded.tokens))
        points = [
            Point(id=point_id, vector=vector.tolist(), turn=_turn(event, piece, self._config_hash))
            for point_id, piece, vector in zip(ids, pieces, embedded.vectors, strict=True)
        ]
        with _classified():
            await asyncio.to_thread(self._write, points)
        self._unstored.stored(first)
        self._counted.stored(first)
        return engine_ms

    async def _charge(self, event: TranscriptReady, embedding_id: str, answers: StepStore) -> Charge | None:
        """What it costs. Prices may change before this is told again: the first ones stand."""
        tokens = (await answers.read()).spent()
        charge = token_charge(tokens, self._provider.model, self._pricing.price_per_embedding, self._pricing)
        charge = await self._charges(event, f"embedding_{embedding_id}", charge)
        if charge is None:
            return None
        return await documents.put_if_absent(
            self._objects, embedding_charge_key(event.tenant, event.call_id, embedding_id), charge
        )

    def _usage(self, event: TranscriptReady, embedding_id: str, charge: Charge) -> UsageRecorded:
        """The ledger line: all of it follows from the transcript and the charge, so that telling it again tells the
        same."""
        key = f"embedding_{embedding_id}"
        return UsageRecorded(
            event_id=uuid_of("usage.recorded", key),
            call_id=event.call_id,
            tenant=event.tenant,
            part=event.part,
            occurred_at_ms=event.occurred_at_ms,
            config_hash=self._config_hash,
            key=key,
            kind="embedding",
            units=charge.units,
            duration_ms=event.duration_ms,
            provider=self._provider.name,
            model=self._provider.model,
            provider_cost=charge.provider_cost,
            price=charge.price,
            currency=charge.currency,
            call_started_at_ms=event.call_started_at_ms,
            tokens=charge.tokens,
        )

    def _write(self, points: Sequence[Point]) -> None:
        # Each time: it costs some milliseconds, and the collection may have been dropped while the service ran.
        self._vectors.ensure(self._collection, self._provider.dimension)
        self._vectors.upsert(self._collection, points)


def _turn(event: TranscriptReady, piece: Chunk, config_hash: str) -> Turn:
    return Turn(
        tenant=event.tenant,
        call_id=event.call_id,
        part=event.part,
        transcript_id=event.transcript_id,
        start_ms=piece.start_ms,
        end_ms=piece.end_ms,
        channel=piece.channel,
        speaker=piece.speaker,
        text=piece.text,
        config_hash=config_hash,
    )


@contextmanager
def _classified() -> Iterator[None]:
    """The store's failures as the runtime's classes."""
    try:
        yield
    except VectorStoreRefusedError as error:
        raise PermanentError(f"vector store: {error}") from error
    except VectorStoreError as error:
        raise RetryableError(f"vector store: {error}") from error


def _bring_over(vectors: VectorStore) -> None:
    """What older versions embedded, beside the work: nothing waits for it, and a search finds it afterwards."""
    try:
        for line in vectors.migrate():
            _log.info("%s", line)
    except VectorStoreError as error:
        _log.warning("vectors of an older version are not brought over yet, `audiotext migrate` does it: %s", error)


def run(settings: Settings) -> None:
    """The service: blocks until it is told to end. Raises SettingsError."""
    provider = registry.embedder(settings)
    vectors = VectorStore(settings.qdrant)
    objects = ObjectStore(settings.s3)
    handler = EmbedHandler(provider, objects, vectors, settings.pricing)
    threading.Thread(target=_bring_over, args=(vectors,), name="migrate", daemon=True).start()
    registry.load_in_background(provider)
    run_stage(
        settings,
        Stage(
            name=NAME,
            source=Topic.TRANSCRIPT_READY,
            retry=Topic.EMBED_RETRY,
            event_type=TranscriptReady,
            handler=IdempotentStage(NAME, handler, objects),
            concurrency=settings.embedding.concurrency,
            timeout_s=settings.embedding.timeout_s,
            per_minute=settings.embedding.per_minute,
        ),
    )
