"""The vector store over a running Qdrant."""

import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import SecretStr
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

from audiotext.stack.services import refuse_newer_stores
from core.settings import QdrantSettings, Settings, SettingsError
from sinks.qdrant import collections
from sinks.qdrant.store import (
    Point,
    Turn,
    VectorStore,
    VectorStoreError,
    VectorStoreRefusedError,
    collection_of,
    connect,
)
from sinks.schema_version import SchemaTooNewError
from tests.conftest import StartServer, qdrant_settings

EAST, NORTH_EAST, NORTH = (1.0, 0.0, 0.0), (0.8, 0.6, 0.0), (0.0, 1.0, 0.0)


@pytest.fixture
def store(qdrant: QdrantSettings) -> Iterator[VectorStore]:
    """A client of the shared store."""
    store = VectorStore(qdrant)
    yield store
    store.close()


@pytest.fixture
def raw(qdrant: QdrantSettings) -> Iterator[QdrantClient]:
    """The vendor's client of the shared store."""
    client = connect(qdrant)
    yield client
    client.close()


@pytest.fixture
def collection(store: VectorStore) -> str:
    """A collection of the test's own, for three dimensions."""
    name = collection_of(f"test-{uuid.uuid4().hex}", 3)
    store.ensure(name, 3)
    return name


def point(text: str, vector: tuple[float, ...], *, tenant: str = "acme", call_id: str = "CA1") -> Point:
    """A point whose id follows from tenant, call and text."""
    turn = Turn(
        tenant=tenant,
        call_id=call_id,
        part=1,
        transcript_id="t1",
        start_ms=1000,
        end_ms=2000,
        channel=0,
        speaker="inbound",
        text=text,
    )
    return Point(str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{call_id}/{text}")), vector, turn)


def test_the_nearest_turn_comes_first_with_what_is_needed_to_show_it(store: VectorStore, collection: str) -> None:
    """Three turns are searched with a vector near one of them. A wrong order, a score that is no cosine or a missing
    field would show a user the wrong place in the wrong call."""
    store.upsert(collection, [point("north", NORTH), point("east", EAST), point("between", NORTH_EAST)])

    hits = store.search(collection, EAST, tenant=None, limit=2)

    assert [hit.text for hit in hits] == ["east", "between"]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.8], abs=1e-5)
    best = hits[0]
    assert (best.call_id, best.tenant, best.part, best.start_ms, best.end_ms, best.speaker) == (
        "CA1",
        "acme",
        1,
        1000,
        2000,
        "inbound",
    )


def test_a_tenant_finds_only_its_own_calls(store: VectorStore, collection: str) -> None:
    """Two tenants said the same; each searches. A hit from the other would be a leak between customers."""
    store.upsert(collection, [point("secret", EAST, tenant="acme"), point("secret", EAST, tenant="other")])

    assert [hit.tenant for hit in store.search(collection, EAST, tenant="other", limit=10)] == ["other"]
    assert store.search(collection, EAST, tenant="nobody", limit=10) == []


def test_writing_twice_is_writing_once(store: VectorStore, collection: str) -> None:
    """The same point is written by two deliveries of one event. Two hits would mean a doubled turn."""
    store.upsert(collection, [point("once", EAST)])
    store.upsert(collection, [point("once", EAST)])

    assert len(store.search(collection, EAST, tenant=None, limit=10)) == 1


def test_more_points_than_one_request_takes(store: VectorStore, collection: str) -> None:
    """600 points go in in batches, none is lost; and no points at all are no error."""
    store.upsert(collection, [point(f"turn {number}", EAST) for number in range(600)])
    store.upsert(collection, [])

    assert len({hit.text for hit in store.search(collection, EAST, tenant=None, limit=1000)}) == 600


def test_a_call_is_deleted_wholly_and_alone(store: VectorStore, collection: str) -> None:
    """One call of three is erased, and a call of the same id of another tenant stays. What remained would be
    personal data that was asked to be erased; what is missing too would be another's loss."""
    store.upsert(
        collection,
        [
            point("gone", EAST, call_id="CA-gone"),
            point("gone too", NORTH, call_id="CA-gone"),
            point("stays", EAST, call_id="CA-stays"),
            point("theirs", EAST, tenant="other", call_id="CA-gone"),
        ],
    )

    store.delete_call("acme", "CA-gone")

    assert {hit.text for hit in store.search(collection, EAST, tenant=None, limit=10)} == {"stays", "theirs"}


def test_two_services_create_the_same_collection_at_once(qdrant: QdrantSettings) -> None:
    """Eight clients ensure one collection at the same time, as replicas do that start together. None may fail, and
    what the first wrote must not be lost by the last."""
    name = collection_of(f"test-{uuid.uuid4().hex}", 3)

    def start(number: int) -> None:
        store = VectorStore(qdrant)
        store.ensure(name, 3)
        store.upsert(name, [point(f"from {number}", EAST)])
        store.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(start, range(8)))

    assert len(VectorStore(qdrant).search(name, EAST, tenant=None, limit=10)) == 8


def test_a_collection_that_is_not_there_holds_nothing(store: VectorStore) -> None:
    """A search before the first call was embedded finds nothing; an error would be a broken page on a new system."""
    assert store.search(collection_of("never-made", 3), EAST, tenant=None, limit=5) == []


def test_a_vector_of_the_wrong_length_is_refused(store: VectorStore, collection: str) -> None:
    """Two dimensions go into a collection of three. It is the caller's mistake and no retry would help, so the error
    must be the one that says so."""
    with pytest.raises(VectorStoreRefusedError):
        store.upsert(collection, [point("flat", (1.0, 0.0))])


def test_a_wrong_key_is_refused(qdrant: QdrantSettings) -> None:
    """The API key is wrong: refused, not "away"."""
    wrong = VectorStore(qdrant.model_copy(update={"api_key": SecretStr("wrong")}))

    with pytest.raises(VectorStoreRefusedError, match="401"):
        wrong.ensure("turns_x_3", 3)


def test_a_dead_store_is_worth_another_try(start_server: StartServer) -> None:
    """The server is killed: writing and searching fail as "away", and both work once it is back, with what it had."""
    server = start_server("qdrant")
    store = VectorStore(qdrant_settings(server))
    store.ensure("turns_x_3", 3)
    store.upsert("turns_x_3", [point("kept", EAST)])
    server.kill()

    for attempt in (
        lambda: store.upsert("turns_x_3", [point("lost", EAST)]),
        lambda: store.search("turns_x_3", EAST, tenant=None, limit=1),
    ):
        with pytest.raises(VectorStoreError) as caught:
            attempt()
        assert not isinstance(caught.value, VectorStoreRefusedError)

    server.start()
    assert [hit.text for hit in store.search("turns_x_3", EAST, tenant=None, limit=5)] == ["kept"]


def test_a_name_is_found_by_its_letters(store: VectorStore, collection: str) -> None:
    """What does this test do? Searches for an order number whose vector says nothing (all turns have the same).

    How? Without the text every turn is as good; with it the one that says the number is first, and what says nothing
    of the sort is not above it. If it failed, a search by name or number would find anything.
    """
    said = ["the order is nice", "order A-4711 is late", "order A-4712 is late", "goodbye then"]
    store.upsert(collection, [point(text, EAST) for text in said])

    hits = store.search(collection, EAST, tenant="acme", limit=3, text="Where is order a-4711?")

    assert hits[0].text == "order A-4711 is late"
    assert [hit.score for hit in hits] == pytest.approx([1.0] * 3, abs=1e-5)  # the cosine: all vectors are the same
    assert store.search(collection, EAST, tenant="other", limit=3, text="order A-4711") == []
    assert len(store.search(collection, EAST, tenant="acme", limit=9, text="???")) == 4  # no word: by meaning alone


def test_scores_are_cosines_and_too_low_ones_are_left_out(store: VectorStore, collection: str) -> None:
    """Searches among turns near and far, two of them with the same sentence, with the lowest score that a hit may have.

    The score of every hit is its cosine, also of the one that is found by a name only, which is far; equal sentences
    have equal scores; what is far and says none of the words is no hit. If this fails, scores mean nothing, and every
    turn is found.
    """
    near, middle, far = EAST, (0.6, 0.8, 0.0), (0.1, 0.0, 0.995)
    store.upsert(
        collection,
        [
            point("the line is down", near, call_id="call-1"),
            point("the line is down", near, call_id="call-2"),
            point("it went off", middle),
            point("this is Whitfield", far),
            point("is this the end", far),
        ],
    )

    hits = store.search(collection, EAST, tenant="acme", limit=9, text="the line of Whitfield", min_score=0.5)

    scores = sorted((hit.text, round(hit.score, 3)) for hit in hits)
    assert scores == [
        ("it went off", 0.6),
        ("the line is down", 1.0),
        ("the line is down", 1.0),
        ("this is Whitfield", 0.1),
    ]
    assert {hit.text for hit in hits[:3]} >= {"the line is down", "this is Whitfield"}  # ranked by words as well
    assert store.search(collection, (0.0, 1.0, 0.0), tenant="acme", limit=1, text="zebra", min_score=0.9) == []
    everything = store.search(collection, EAST, tenant="acme", limit=9, text="zebra")
    assert len(everything) == 5  # without a lowest score
    ranked_by_words_only = store.search(collection, EAST, tenant="acme", limit=1, text="Whitfield", min_score=1.1)
    assert [(hit.text, round(hit.score, 3)) for hit in ranked_by_words_only] == [("this is Whitfield", 0.1)]


def test_an_old_collection_is_brought_over_whole(
    store: VectorStore, raw: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does this test do? Makes a collection as version 1 had it, with more points than a request takes, migrates,
    and compares: every point under its id, found by meaning and by its words; the old one is gone.

    Done twice, as by two services that start at once, and cut off in the middle: nothing changes. If it failed, an
    update would lose what calls were found by.
    """
    old = f"turns_test-{uuid.uuid4().hex}_3"
    raw.create_collection(old, vectors_config=VectorParams(size=3, distance=Distance.COSINE))
    points = [point(f"turn number {number}", NORTH if number else EAST) for number in range(30)]
    monkeypatch.setattr(collections, "_BATCH", 8)
    raw.upsert(old, [PointStruct(id=p.id, vector=list(p.vector), payload=asdict(p.turn)) for p in points])
    new = f"{old}_v2"
    store.ensure(new, 3)
    store.upsert(new, points[:10])  # where it was cut off

    assert any(line.startswith(f"{old}: 30 turns") for line in store.migrate())
    assert not [line for line in store.migrate() if old in line]

    assert not raw.collection_exists(old)
    assert {str(record.id) for record in raw.scroll(new, limit=99)[0]} == {p.id for p in points}
    assert store.search(new, EAST, tenant="acme", limit=1)[0].text == "turn number 0"
    assert "turn number 17" in [hit.text for hit in store.search(new, EAST, tenant="acme", limit=2, text="17")]


def test_a_call_erased_while_it_is_brought_over_stays_erased(
    store: VectorStore, raw: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call is erased between being read from the old collection and being written to the new one. It must not come
    back: that would be personal data that was asked to be erased."""
    old = f"turns_test-{uuid.uuid4().hex}_3"
    raw.create_collection(old, vectors_config=VectorParams(size=3, distance=Distance.COSINE))
    points = [point("gone", EAST, call_id="CA-gone"), point("stays", EAST)]
    raw.upsert(old, [PointStruct(id=p.id, vector=list(p.vector), payload=asdict(p.turn)) for p in points])
    parsed = collections.parse(old)
    assert parsed is not None
    scroll = raw.scroll

    def erased_meanwhile(*args: Any, **kwargs: Any) -> Any:
        read = scroll(*args, **kwargs)
        store.delete_call("acme", "CA-gone")
        return read

    monkeypatch.setattr(raw, "scroll", erased_meanwhile)
    collections.upgrade(raw, parsed)

    assert [hit.text for hit in store.search(parsed.current, EAST, tenant=None, limit=9)] == ["stays"]


def test_newer_collections_are_left_alone(qdrant: QdrantSettings, raw: QdrantClient) -> None:
    """A newer version has been here: neither a migration nor a service may touch what it made."""
    name = f"turns_test-{uuid.uuid4().hex}_3_v99"
    raw.create_collection(name, vectors_config=VectorParams(size=3, distance=Distance.COSINE))
    try:
        with pytest.raises(SchemaTooNewError, match=r"Qdrant is at schema 99.*a newer one"):
            VectorStore(qdrant).migrate()
        with pytest.raises(SchemaTooNewError):
            refuse_newer_stores("embedder", Settings(qdrant=qdrant))
    finally:
        raw.delete_collection(name)
    refuse_newer_stores("embedder", Settings(qdrant=qdrant))
    refuse_newer_stores("embedder", Settings(qdrant=QdrantSettings(url="http://127.0.0.1:9")))  # away: it may start


def test_a_store_without_address_names_the_setting() -> None:
    """No URL is configured: the message says which setting is missing."""
    with pytest.raises(SettingsError, match="AUDIOTEXT_QDRANT__URL"):
        VectorStore(QdrantSettings())


def test_a_key_without_tls_is_warned_of_only_beyond_this_machine() -> None:
    """The client warns of a key sent in the clear. On the loopback that is noise, elsewhere it must stay."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VectorStore(QdrantSettings(url="http://127.0.0.1:6333", api_key=SecretStr("key")))
    with pytest.warns(UserWarning, match="insecure"):
        VectorStore(QdrantSettings(url="http://qdrant.example:6333", api_key=SecretStr("key")))
