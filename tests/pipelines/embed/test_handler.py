"""The embedder over real object storage and a real vector store, with the real model."""

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.settings import PricingSettings, QdrantSettings, S3Settings, TokenRates
from pipelines.embed.handler import EmbedHandler
from pipelines.providers.base import Embedded
from pipelines.providers.minilm.embedder import MiniLm
from pipelines.runtime.errors import RetryableError
from pipelines.text.sentences import split_sentences
from redpanda import topics
from redpanda.client import EventProducer
from schemas.artifacts import Transcript
from schemas.events import EmbeddingReady, Tokens, TranscriptReady, UsageRecorded, parse_event
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from sinks.qdrant.store import Hit, VectorStore, VectorStoreError, collection_of
from tests.conftest import StartServer, kafka_settings, qdrant_settings
from tests.support.demo_calls import CALLS, demo_call
from tests.support.ids import new_call
from tests.support.pipeline_events import said, transcribed
from tests.support.running_server import RunningServer
from tests.support.service_process import records, running


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


@pytest.fixture
def vectors(qdrant: QdrantSettings) -> VectorStore:
    """The shared vector store."""
    return VectorStore(qdrant)


@pytest.fixture
def tenant() -> str:
    """A tenant of the test's own: it sees only its calls."""
    return f"tenant-{uuid.uuid4().hex}"


async def embedded(
    minilm: MiniLm, objects: ObjectStore, vectors: VectorStore, event: TranscriptReady
) -> EmbeddingReady:
    """The handler's one output."""
    [output] = await EmbedHandler(minilm, objects, vectors, PricingSettings())(event)
    assert output.topic == Topic.EMBEDDING_READY
    assert isinstance(output.event, EmbeddingReady)
    return output.event


async def found(minilm: MiniLm, vectors: VectorStore, tenant: str, query: str, limit: int = 5) -> list[Hit]:
    """What a search for the query finds."""
    vector = await minilm.embed_query(query)
    collection = collection_of(minilm.model, minilm.dimension)
    return vectors.search(collection, vector.tolist(), tenant=tenant, limit=limit)


async def test_the_longest_sentence_of_each_call_finds_its_call(
    minilm: MiniLm,
    objects: ObjectStore,
    vectors: VectorStore,
    tenant: str,
    transcripts: Mapping[str, Transcript],
) -> None:
    """Both demo calls, as Whisper heard them, are embedded; then the longest sentence really said in each is searched,
    and, harder, a question in other words. The call must come first, at the place where it was said."""
    for transcript in transcripts.values():
        await embedded(minilm, objects, vectors, transcribed(objects, transcript, tenant=tenant))

    for name in CALLS:
        longest, turn = max(
            ((sentence, turn) for turn in demo_call(name).turns for sentence in split_sentences(turn.text)),
            key=lambda pair: len(pair[0]),
        )
        best = (await found(minilm, vectors, tenant, longest))[0]
        assert best.call_id == name
        assert best.start_ms / 1000 < turn.end
        assert best.end_ms / 1000 > turn.start
        assert best.score > 0.5
    for question, name in (
        ("customer is unhappy that the connection does not work", "broadband_outage"),
        ("when is the dentist appointment", "clinic_reschedule"),
        ("is the treatment paid by insurance", "clinic_reschedule"),
        ("discount on the invoice as compensation", "broadband_outage"),
    ):
        assert (await found(minilm, vectors, tenant, question))[0].call_id == name, question


async def test_told_twice_each_turn_is_found_once(
    minilm: MiniLm, objects: ObjectStore, vectors: VectorStore, tenant: str
) -> None:
    """A redelivery writes the same points: a search must not show every turn twice."""
    call_id = new_call()
    event = transcribed(objects, said(call_id, "My router is broken.", "We will send a new one."), tenant=tenant)

    first = await embedded(minilm, objects, vectors, event)
    second = await embedded(minilm, objects, vectors, event)

    assert first.event_id == second.event_id
    assert (first.points, first.dimension, first.collection) == (2, 384, "turns_minilm-l6-v2_384_v2")
    assert len(await found(minilm, vectors, tenant, "router", limit=50)) == 2


async def test_a_hit_says_where(minilm: MiniLm, objects: ObjectStore, vectors: VectorStore, tenant: str) -> None:
    """A hit has the turn's text, times and speaker, for the API shows them without asking further."""
    call_id = new_call()
    event = transcribed(objects, said(call_id, "My router is broken.", "We will send a new one."), tenant=tenant)
    await embedded(minilm, objects, vectors, event)

    hit = (await found(minilm, vectors, tenant, "we will send a new one"))[0]

    assert (hit.call_id, hit.tenant, hit.part) == (call_id, tenant, 1)
    assert (hit.start_ms, hit.end_ms, hit.speaker) == (1000, 1900, "outbound")
    assert hit.text == "We will send a new one."


async def test_a_call_in_which_nobody_spoke(
    minilm: MiniLm, objects: ObjectStore, vectors: VectorStore, tenant: str
) -> None:
    """Nothing to search, and still the event that says so: the call must get to its end."""
    ready = await embedded(minilm, objects, vectors, transcribed(objects, said(new_call()), tenant=tenant))

    assert ready.points == 0


async def test_a_store_that_is_away_is_worth_another_try(
    minilm: MiniLm, objects: ObjectStore, start_server: StartServer, tenant: str
) -> None:
    """The vector store is killed, and comes back: the first attempt fails as one to be retried, the next succeeds."""
    server = start_server("qdrant")
    vectors = VectorStore(qdrant_settings(server))
    event = transcribed(objects, said(new_call(), "My router is broken."), tenant=tenant)
    server.kill()

    with pytest.raises(RetryableError):
        await embedded(minilm, objects, vectors, event)

    server.start()
    assert (await embedded(minilm, objects, vectors, event)).points == 1


async def test_vectors_wait_for_a_store_that_takes_nothing(
    minilm: MiniLm, objects: ObjectStore, vectors: VectorStore, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vector store can be asked and takes nothing for two attempts, as when its disk is full; the provider charges.
    The third attempt writes the vectors of the first, and the bill has them once. Embedded anew each time, they would
    be paid for at every attempt."""
    event = transcribed(objects, said(new_call(), "My router is broken."), tenant=tenant)
    upsert, embed, refusals, asked = vectors.upsert, minilm.embed, [1, 2], []

    def full(*args: Any) -> None:
        if refusals:
            refusals.pop()
            raise VectorStoreError("full")
        upsert(*args)

    async def dear(texts: Sequence[str]) -> Embedded:
        asked.append(texts)
        return Embedded((await embed(texts)).vectors, Tokens(prompt=7))

    monkeypatch.setattr(vectors, "upsert", full)
    monkeypatch.setattr(minilm, "embed", dear)
    handler = EmbedHandler(
        minilm, objects, vectors, PricingSettings(gemini_rates={minilm.model: TokenRates(input=Decimal(1))})
    )
    for _ in range(2):
        with pytest.raises(RetryableError):
            await handler(event)
    _, line = [output.event for output in await handler(event)]

    assert len(asked) == 1
    assert isinstance(line, UsageRecorded)
    assert line.tokens is not None
    assert line.tokens.prompt == 7


async def test_the_service(
    *,
    start_server: StartServer,
    object_server: RunningServer,
    qdrant_server: RunningServer,
    objects: ObjectStore,
    vectors: VectorStore,
    minilm: MiniLm,
    model_cache: Path,
    tenant: str,
    tmp_path: Path,
) -> None:
    """The service as it runs in production: a transcript goes in, its turns can be found, SIGTERM ends it cleanly."""
    log = start_server("log")
    kafka = kafka_settings(log)
    topics.apply(kafka, embedded=True)
    event = transcribed(objects, said(new_call(), "My router is broken."), tenant=tenant)
    env = {
        **log.addresses,
        **object_server.addresses,
        **qdrant_server.addresses,
        "AUDIOTEXT_DATA_DIR": str(model_cache.parent),
    }

    with running("pipelines.embed.handler", env, tmp_path / "log") as service:
        EventProducer(kafka).send(Topic.TRANSCRIPT_READY, [event])
        [ready] = [parse_event(value) for value in records(kafka, Topic.EMBEDDING_READY, 1, timeout_s=60)]
        code, took_s = service.terminate()

    assert isinstance(ready, EmbeddingReady)
    assert [hit.call_id for hit in await found(minilm, vectors, tenant, "broken router")] == [event.call_id]
    assert (code, took_s < 3) == (0, True), service.output
