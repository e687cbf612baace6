"""Tests of the embedded vector store with the services' client."""

import importlib.metadata
import uuid
from collections.abc import Iterator

import pytest
import urllib3
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from core.settings import QdrantSettings
from sinks.qdrant.store import connect
from tests.conftest import StartServer, qdrant_settings


@pytest.fixture
def client(qdrant: QdrantSettings) -> Iterator[QdrantClient]:
    client = connect(qdrant)
    yield client
    client.close()


@pytest.fixture
def collection(client: QdrantClient) -> str:
    name = f"c-{uuid.uuid4().hex}"
    client.create_collection(name, vectors_config=models.VectorParams(size=3, distance=models.Distance.COSINE))
    client.upsert(
        name,
        [
            models.PointStruct(id=str(uuid.uuid4()), vector=[1, 0, 0], payload={"tenant": "a", "text": "first"}),
            models.PointStruct(id=str(uuid.uuid4()), vector=[0, 1, 0], payload={"tenant": "b", "text": "second"}),
            models.PointStruct(id=3, vector=[0, 0.9, 0.1], payload={"tenant": "a", "text": "third"}),
        ],
        wait=True,
    )
    return name


def tenant(name: str) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="tenant", match=models.MatchValue(value=name))])


def test_search_returns_the_nearest_within_the_filter(client: QdrantClient, collection: str) -> None:
    """Searches with a filter.

    The nearest vector must be first, with its payload, and excluded points must be missing.
    """
    found = client.query_points(collection, query=[0.0, 1.0, 0.0], query_filter=tenant("a"), limit=2, with_payload=True)
    assert [(point.payload or {})["text"] for point in found.points] == ["third", "first"]
    assert found.points[0].score > 0.99


def test_upsert_replaces_points(client: QdrantClient, collection: str) -> None:
    """Writes a point twice with the same id: it must be found once, so that a redelivered call is not duplicated."""
    for _ in range(2):
        client.upsert(collection, [models.PointStruct(id=3, vector=[1, 1, 1], payload={"tenant": "c"})], wait=True)
    assert client.count(collection).count == 3
    assert client.retrieve(collection, [3])[0].payload == {"tenant": "c"}


def test_scroll_returns_each_point_once(client: QdrantClient, collection: str) -> None:
    """Reads all points in pages: each point must be returned once."""
    seen = []
    offset = None
    while True:
        points, offset = client.scroll(collection, limit=1, offset=offset)
        seen += [point.id for point in points]
        if offset is None:
            break
    assert len(seen) == len(set(seen)) == 3


def test_deletion_by_filter_and_by_id(client: QdrantClient, collection: str) -> None:
    """Deletes by filter, as an erasure does, and by id: all points of that tenant must be gone, and no others."""
    client.delete(collection, models.FilterSelector(filter=tenant("a")), wait=True)
    assert client.count(collection, count_filter=tenant("a")).count == 0
    assert client.count(collection).count == 1
    left, _ = client.scroll(collection)
    client.delete(collection, models.PointIdsList(points=[left[0].id]), wait=True)
    assert client.count(collection).count == 0


def test_collections_are_listed_described_and_dropped(client: QdrantClient, collection: str) -> None:
    """Lists, describes and deletes collections, as a service does at its start."""
    assert client.collection_exists(collection)
    assert collection in [item.name for item in client.get_collections().collections]
    vectors = client.get_collection(collection).config.params.vectors
    assert isinstance(vectors, models.VectorParams)
    assert vectors.size == 3
    client.create_payload_index(collection, "tenant", models.PayloadSchemaType.KEYWORD, wait=True)
    client.delete_collection(collection)
    assert not client.collection_exists(collection)


def test_errors_have_the_statuses_of_a_server(client: QdrantClient, collection: str) -> None:
    """Causes errors: the statuses for missing, existing and invalid must be those of a Qdrant server."""
    with pytest.raises(UnexpectedResponse) as missing:
        client.count("no-such-collection")
    assert missing.value.status_code == 404
    with pytest.raises(UnexpectedResponse) as twice:
        client.create_collection(
            collection, vectors_config=models.VectorParams(size=3, distance=models.Distance.COSINE)
        )
    assert twice.value.status_code == 409
    with pytest.raises(UnexpectedResponse) as wrong:
        client.upsert(collection, [models.PointStruct(id=1, vector=[1, 2], payload={})])
    assert wrong.value.status_code == 400


def test_requests_without_the_key_are_rejected(qdrant: QdrantSettings) -> None:
    """Sends requests with missing and wrong keys: all must fail, because every local program can connect."""
    http = urllib3.PoolManager(ca_certs=str(qdrant.ca_file))
    for headers in ({}, {"api-key": "wrong"}):
        assert http.request("GET", f"{qdrant.url}/collections", headers=headers).status == 401
    assert http.request("GET", f"{qdrant.url}/healthz").status == 200


def test_version_is_that_of_the_client(client: QdrantClient) -> None:
    """Reads the version: clients warn if it differs from their own."""
    assert client.info().version == importlib.metadata.version("qdrant-client")


def test_invalid_body_gives_400(qdrant: QdrantSettings) -> None:
    """Sends invalid bodies: each must get 400 with a message, not a server error."""
    assert qdrant.api_key is not None
    headers = {"api-key": qdrant.api_key.get_secret_value()}
    http = urllib3.PoolManager(ca_certs=str(qdrant.ca_file))
    response = http.request("POST", f"{qdrant.url}/collections/x/points/count", body=b"{", headers=headers)
    assert response.status == 400
    assert "Format error" in response.json()["status"]["error"]


def test_points_survive_a_kill(start_server: StartServer) -> None:
    """Writes points, kills the process, starts it again, and searches: all written points must be found."""
    server = start_server("qdrant")
    client = connect(qdrant_settings(server))
    client.create_collection("kept", vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
    client.upsert("kept", [models.PointStruct(id=i, vector=[1, i], payload={"n": i}) for i in range(50)], wait=True)
    client.close()
    server.kill()
    server.start()
    client = connect(qdrant_settings(server))
    assert client.count("kept").count == 50
    assert client.query_points("kept", query=[1.0, 0.0], limit=1).points[0].id == 0
    client.close()
