"""transcript.ready → vectors of the speaker turns in Qdrant, and embedding.ready: the call can be found by meaning."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from audiotext.settings import Settings
from pipelines import claims
from pipelines.providers import Embedder, registry
from pipelines.runtime.errors import PermanentError, RetryableError
from pipelines.runtime.runner import run_stage
from pipelines.runtime.stage import Output, Stage
from pipelines.turns import Piece, pieces_of
from schemas.artifacts import Transcript
from schemas.events import EmbeddingReady, TranscriptReady
from schemas.ids import config_hash, uuid_of
from schemas.topics import Topic
from sinks.objects import ObjectStore
from sinks.vectors import Point, Turn, VectorStore, VectorStoreError, VectorStoreRefusedError, collection_of

_log = logging.getLogger(__name__)

NAME = "embed"


class EmbedHandler:
    """The work on one transcript. Points have deterministic ids: done again, the same points are written."""

    def __init__(self, provider: Embedder, objects: ObjectStore, vectors: VectorStore) -> None:
        self._provider = provider
        self._objects = objects
        self._vectors = vectors
        self._collection = collection_of(provider.model, provider.dimension)
        self._config_hash = config_hash(provider.config())

    async def __call__(self, event: TranscriptReady) -> Sequence[Output]:
        """The event that says the call is searchable. Raises pipelines.runtime.errors."""
        transcript = await claims.fetch(self._objects, event.transcript, Transcript)
        pieces = pieces_of(transcript)
        ids = [
            uuid_of(event.tenant, event.call_id, event.part, event.transcript_id, index) for index in range(len(pieces))
        ]
        with _classified():
            held = await asyncio.to_thread(self._vectors.holds, self._collection, ids, self._config_hash)
        engine_ms = 0  # of this attempt: what is found cost nothing now
        if not held:
            started = time.monotonic()
            vectors = await self._provider.embed([piece.text for piece in pieces])
            engine_ms = round((time.monotonic() - started) * 1000)
            points = [
                Point(id=point_id, vector=vector.tolist(), turn=_turn(event, piece, self._config_hash))
                for point_id, piece, vector in zip(ids, pieces, vectors, strict=True)
            ]
            with _classified():
                await asyncio.to_thread(self._write, points)
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
            points=len(ids),
            engine_ms=engine_ms,
            call_started_at_ms=event.call_started_at_ms,
        )
        return [Output(Topic.EMBEDDING_READY, ready)]

    def _write(self, points: Sequence[Point]) -> None:
        # Each time: it costs some milliseconds, and the collection may have been dropped while the service ran.
        self._vectors.ensure(self._collection, self._provider.dimension)
        self._vectors.upsert(self._collection, points)


def _turn(event: TranscriptReady, piece: Piece, config_hash: str) -> Turn:
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
    handler = EmbedHandler(provider, ObjectStore(settings.s3), vectors)
    threading.Thread(target=_bring_over, args=(vectors,), name="migrate", daemon=True).start()
    registry.load_in_background(provider)
    run_stage(
        settings,
        Stage(
            name=NAME,
            source=Topic.TRANSCRIPT_READY,
            retry=Topic.EMBED_RETRY,
            event_type=TranscriptReady,
            handler=handler,
            concurrency=settings.embedding.concurrency,
            timeout_s=settings.embedding.timeout_s,
        ),
    )
