"""All embedders, one behaviour: rows of unit length that find what is meant, in a collection of their own, the same
events and the same ledger."""

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from google.genai.types import EmbedContentResponse
from pydantic import SecretStr

from api.embedding import QueryEmbedder, min_score
from api.errors import ApiError
from core.health_check import HealthCheck
from core.settings import GeminiSettings, PricingSettings, QdrantSettings, S3Settings
from pipelines.embed.handler import EmbedHandler
from pipelines.providers.base import Embedder
from pipelines.providers.gemini.embedder import GeminiEmbedder, _rows, _tokens
from pipelines.providers.minilm.embedder import MiniLm
from pipelines.runtime.errors import BilledFailureError, PermanentError, ProviderOutageError, RetryableError, StageError
from schemas.events import EmbeddingReady, Event, Tokens, TranscriptReady, UsageRecorded
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from sinks.qdrant.bm25 import share_word
from sinks.qdrant.store import VectorStore, collection_of
from tests.fakes import gemini as fake
from tests.fakes.gemini import CONTRACT, FakeGemini, error_body
from tests.support.demo_calls import CALLS, demo_call
from tests.support.gemini_client import CLASSES
from tests.support.ids import new_call
from tests.support.pipeline_events import STARTED_MS, said, transcribed

TEXTS = ["My router is broken since this morning.", "We will send a technician tomorrow.", "Goodbye, have a nice day."]

NOBODY_SAID = (
    "zebra quantum xyz",
    "volcano eruption in Iceland",
    "how to bake sourdough bread",
    "purple monkey dishwasher",
    "my dog ate the homework",
    "how tall is Mount Everest",
    "what would the opera singer do",
    "asdf qwerty",
)
SAID = {
    "my insurance": "whether my insurance covers",
    "my email": "My email address has changed",
    "internet keeps disconnecting": "My internet has been down",
    "moving the visit to Thursday": "Thursday",
    "what colour are the lights": "green, orange, or red",
    "when were you born": "date of birth",
    "Whitfield": "Daniel Whitfield",
    "who is Olivia": "Olivia Parker",
}


def gemini(google: FakeGemini, model: str = "gemini-embedding-2", dimension: int = 768) -> GeminiEmbedder:
    """An embedder at that google."""
    settings = GeminiSettings(
        base_url=google.url, api_key=SecretStr(fake.KEY), embedding_model=model, embedding_dimension=dimension
    )
    return GeminiEmbedder(settings, fake.KEY, 20.0)


@pytest.fixture(params=["local", "gemini-embedding-2", "gemini-embedding-001"])
def embedder(request: pytest.FixtureRequest, minilm: MiniLm, google: FakeGemini) -> Embedder:
    """Each of them."""
    return minilm if request.param == "local" else gemini(google, request.param)


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


@pytest.fixture
def vectors(qdrant: QdrantSettings) -> VectorStore:
    """The shared vector store."""
    return VectorStore(qdrant)


async def told(
    embedder: Embedder,
    objects: ObjectStore,
    vectors: VectorStore,
    event: TranscriptReady,
    pricing: PricingSettings | None = None,
) -> tuple[EmbeddingReady, UsageRecorded | None]:
    """The handler's outputs: that the call is searchable, and the line if there is one."""
    outputs = await EmbedHandler(embedder, objects, vectors, pricing or PricingSettings())(event)
    assert [output.topic for output in outputs] == [Topic.EMBEDDING_READY, Topic.USAGE_RECORDED][: len(outputs)]
    events: Sequence[Event] = [output.event for output in outputs]
    ready = events[0]
    line = events[1] if len(events) > 1 else None
    assert isinstance(ready, EmbeddingReady)
    assert line is None or isinstance(line, UsageRecorded)
    return ready, line


async def test_rows(embedder: Embedder) -> None:
    """One row of unit length for each text, a text's own whatever it is embedded with, and a query of the same kind.
    With the newer Gemini models several strings would become one vector."""
    together = (await embedder.embed(TEXTS)).vectors
    alone = (await embedder.embed(TEXTS[1:2])).vectors
    query = await embedder.embed_query("router")

    assert together.shape == (3, embedder.dimension)
    assert together.dtype == query.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert np.abs(together[1] - alone[0]).max() < 1e-5
    assert query.shape == (embedder.dimension,)
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    assert int(np.argmax(together @ query)) == 0
    assert (await embedder.embed([])).vectors.shape == (0, embedder.dimension)


async def test_found_again(embedder: Embedder, objects: ObjectStore, vectors: VectorStore) -> None:
    """A call is embedded, told twice, and searched: each turn is there once, in the model's own collection, and what
    was there was not embedded again."""
    tenant = f"tenant-{uuid.uuid4().hex}"
    event = transcribed(objects, said(new_call(), *TEXTS), tenant=tenant)
    first, _ = await told(embedder, objects, vectors, event)
    again, _ = await told(embedder, objects, vectors, event)

    assert again.event_id == first.event_id
    assert (first.points, first.provider, first.model) == (3, embedder.name, embedder.model)
    assert first.collection == collection_of(embedder.model, embedder.dimension)
    assert again.engine_ms == 0
    query = await embedder.embed_query("router broken")
    hits = vectors.search(first.collection, query.tolist(), tenant=tenant, limit=10)
    assert hits[0].text == TEXTS[0]
    assert len(hits) == 3


async def test_the_lowest_score_tells_what_was_said(minilm: MiniLm, objects: ObjectStore, vectors: VectorStore) -> None:
    """Searches the demo calls with the local model and its default lowest score.

    Queries about something else find nothing; queries about the calls find the right turn, also a question whose words
    are not in it; a name is found although its turn is not near. If this fails, the default does not fit the model.
    """
    lowest = min_score(minilm.model, None)
    assert lowest is not None
    tenant = f"tenant-{uuid.uuid4().hex}"
    texts = [turn.text for name in CALLS for turn in demo_call(name).turns]
    ready, _ = await told(minilm, objects, vectors, transcribed(objects, said(new_call(), *texts), tenant=tenant))

    async def found(query: str) -> list[str]:
        vector = (await minilm.embed_query(query)).tolist()
        hits = vectors.search(ready.collection, vector, tenant=tenant, limit=30, text=query, min_score=lowest)
        assert all(hit.score >= lowest or share_word(query, hit.text) for hit in hits)
        return [hit.text for hit in hits]

    for query in NOBODY_SAID:
        assert await found(query) == [], query
    for query, words in SAID.items():
        assert words in " ".join((await found(query))[:2]), query
    assert min_score(minilm.model, 0.5) == 0.5  # the setting wins
    assert min_score("gemini-embedding-2", None) is None  # nobody measured it


async def test_the_ledger(embedder: Embedder, objects: ObjectStore, vectors: VectorStore) -> None:
    """Where being searchable has a price it has one line, the same whoever embeds but for what it costs us; told again
    it is the same to the letter."""
    event = transcribed(objects, said(new_call(), *TEXTS))
    _, line = await told(embedder, objects, vectors, event, PricingSettings(price_per_embedding=Decimal("0.001")))
    _, same = await told(embedder, objects, vectors, event, PricingSettings(price_per_embedding=Decimal("9")))

    assert line is not None
    assert line == same
    assert line.key.startswith("embedding_")
    assert (line.kind, line.units, line.price) == ("embedding", 0, Decimal("0.001"))
    assert (line.duration_ms, line.call_started_at_ms) == (3000, STARTED_MS)
    assert (line.provider, line.model) == (embedder.name, embedder.model)
    assert (line.provider_cost > 0) == (line.tokens is not None) == (embedder.name == "gemini")


async def test_nothing_said(embedder: Embedder, objects: ObjectStore, vectors: VectorStore) -> None:
    """Nothing to find, nothing asked, nothing to pay, and still the event that ends the call."""
    ready, line = await told(embedder, objects, vectors, transcribed(objects, said(new_call())))

    assert (ready.points, line) == (0, None)


async def test_check(embedder: Embedder) -> None:
    """Each can say whether it would work."""
    assert isinstance(embedder, HealthCheck)
    check = await embedder.check()
    assert check.ok, check


async def test_texts_and_queries_are_told_apart(google: FakeGemini) -> None:
    """Newer models take what a text is for as words before it and refuse a task type; older ones the other way round.
    Mixed up, search gets worse and nobody sees it."""
    for model in ("gemini-embedding-2", "models/gemini-embedding-001"):
        await gemini(google, model).embed(["A router."])
        await gemini(google, model).embed_query("router")

    asked = [body["requests"][0] for _, body in google.asked]
    assert [(one["content"]["parts"][0]["text"], one.get("taskType")) for one in asked] == [
        ("title: none | text: A router.", None),
        ("task: search result | query: router", None),
        ("A router.", "RETRIEVAL_DOCUMENT"),
        ("router", "RETRIEVAL_QUERY"),
    ]
    assert {one["outputDimensionality"] for one in asked} == {768}


async def test_models_and_dimensions_never_mix(
    google: FakeGemini, minilm: MiniLm, objects: ObjectStore, vectors: VectorStore
) -> None:
    """The same call with three models: three collections, and each finds its own turns only. Vectors of two models in
    one collection would be compared although they have nothing in common."""
    tenant = f"tenant-{uuid.uuid4().hex}"
    event = transcribed(objects, said(new_call(), *TEXTS), tenant=tenant)
    embedders: list[Embedder] = [minilm, gemini(google), gemini(google, dimension=128)]
    names = [(await told(one, objects, vectors, event))[0].collection for one in embedders]

    assert len(set(names)) == 3
    for one, name in zip(embedders, names, strict=True):
        query = (await one.embed_query("router")).tolist()
        assert len(vectors.search(name, query, tenant=tenant, limit=50)) == 3


async def test_search_asks_the_same_model(google: FakeGemini) -> None:
    """The API makes the embedder in a thread and asks it from its loop: the question's vector and the collection to
    look in are the model's. With Gemini away a search is a 503 that says so, and works again as soon as Gemini does."""
    queries = QueryEmbedder(lambda: gemini(google), 20)

    embedder, vector = await queries.vector("router")
    assert (embedder.model, len(vector)) == ("gemini-embedding-2", 768)
    google.script = [(503, error_body(503, "UNAVAILABLE", "overloaded"))]
    with pytest.raises(ApiError) as away:
        await queries.vector("router")
    assert away.value.status == 503
    assert (await queries.vector("router"))[1] == vector


async def test_a_long_call_goes_in_batches(google: FakeGemini, objects: ObjectStore, vectors: VectorStore) -> None:
    """250 turns: no request has more than the API takes. The last one fails, and the next attempt asks for that one
    only; every token that was counted is on the line."""
    event = transcribed(objects, said(new_call(), *(f"This is sentence number {n} of the call." for n in range(250))))
    google.script = [None, None, (500, error_body(500, "INTERNAL", "no"))]
    with pytest.raises(RetryableError):
        await told(gemini(google, dimension=128), objects, vectors, event)

    ready, line = await told(gemini(google, dimension=128), objects, vectors, event)

    assert [len(body["requests"]) for _, body in google.asked] == [100, 100, 50, 50]
    assert ready.points == 250
    sent = [one["content"]["parts"][0]["text"] for _, body in google.asked[:3] for one in body["requests"]]
    assert line is not None
    assert line.tokens == Tokens(prompt=sum(fake.tokens(text) for text in sent))
    assert line.provider_cost == (Decimal(line.tokens.prompt) / 5 / 10**6).quantize(Decimal("0.000001"))


async def test_vectors_that_are_none_cost_too(google: FakeGemini, objects: ObjectStore, vectors: VectorStore) -> None:
    """Gemini answers, and bills, with a vector too few; then with all of them. The first answer is a failed attempt and
    no outage, or it would be asked for without end; the line has the tokens of both."""
    event = transcribed(objects, said(new_call(), *TEXTS))
    useless = {"embeddings": [{"values": [1.0] * 768}] * 2, "usageMetadata": {"promptTokenCount": 1_000}}
    google.script = [(200, useless)]
    with pytest.raises(BilledFailureError, match="2 vectors"):
        await told(gemini(google), objects, vectors, event)

    _, line = await told(gemini(google), objects, vectors, event)

    sent = [one["content"]["parts"][0]["text"] for one in google.asked[1][1]["requests"]]
    assert line is not None
    assert line.tokens == Tokens(prompt=1_000 + sum(fake.tokens(text) for text in sent))


async def test_tokens_are_estimated_where_nobody_counts(google: FakeGemini) -> None:
    """Not every google says what it counted: a cost of nothing would be a false margin."""
    google.counts = False

    assert (await gemini(google).embed(["A router."])).tokens == Tokens(prompt=8)


@pytest.mark.parametrize(("status", "name", "message"), fake.ERRORS, ids=[name for _, name, _ in fake.ERRORS])
async def test_every_documented_error(google: FakeGemini, status: int, name: str, message: str) -> None:
    """The same classes as for summaries, asked once."""
    google.script = [(status, error_body(status, name, message))] * 5
    with pytest.raises(StageError) as caught:
        await gemini(google).embed(TEXTS)

    assert type(caught.value) is CLASSES[name][0]
    assert len(google.asked) == 1


async def test_a_wrong_key_and_nobody_there(google: FakeGemini) -> None:
    """A key that is none is given up; a google that is away is an outage."""
    wrong = GeminiEmbedder(GeminiSettings(base_url=google.url), "another", 20.0)
    with pytest.raises(PermanentError, match="AUDIOTEXT_GEMINI__API_KEY"):
        await wrong.embed_query("x")
    await google.stop()
    with pytest.raises(ProviderOutageError):
        await gemini(google).embed_query("x")


@pytest.mark.parametrize("values", [[[1.0]], [[0.0, 0.0]], [[float("nan"), 1.0]], [[1.0, 0.0], [0.0, 1.0]], []])
def test_vectors_that_are_none(values: list[Any]) -> None:
    """Too short, of no length, not finite, too many, none: never into the collection."""
    with pytest.raises(RetryableError):
        _rows(EmbedContentResponse.model_validate({"embeddings": [{"values": row} for row in values]}), 1, 2)


def test_the_documented_usage() -> None:
    """What Google's API answers for a batch: the count at the top, which Google's client passes on."""
    body = CONTRACT["usage of a batch of embeddings"]["body"]
    response = EmbedContentResponse._from_response(response=body, kwargs={})

    assert _tokens(response, ["What is the meaning of life?"]) == Tokens(prompt=5)
    assert _rows(response, 1, 2).tolist() == [pytest.approx([0.6, 0.8])]
