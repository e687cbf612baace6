"""Speaker turns as vectors in Qdrant. Synchronous (the client is used so): call it from a thread when an event loop
must not wait.

Point ids are deterministic, so writing twice is writing once.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse
from qdrant_client.models import (
    Distance,
    FieldCondition,
    Filter,
    FilterSelector,
    MatchValue,
    PayloadSchemaType,
    PointStruct,
    VectorParams,
)

from audiotext.settings import QdrantSettings, SettingsError
from audiotext.tls import client_context

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PREFIX = "turns_"
_TIMEOUT_S = 10
_BATCH = 256  # points a request: 256 of 384 floats are about 2 MB of JSON, well below the server's 32 MB
_INDEXED = ("tenant", "call_id")  # what searches and deletions filter by


class VectorStoreError(Exception):
    """The vector store is away or did not do what was asked. Worth another try."""


class VectorStoreRefusedError(VectorStoreError):
    """The vector store understood and said no (a 4xx): the same request will be refused again."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What lies beside a vector: who said what, and where. Times in ms from the recording's start."""

    tenant: str
    call_id: str
    part: int
    transcript_id: str
    start_ms: int
    end_ms: int
    channel: int
    speaker: str
    text: str
    config_hash: str = ""  # of the configuration that made the vector


@dataclass(frozen=True, slots=True)
class Point:
    """A turn and its vector. id: a UUID, the same for the same turn."""

    id: str
    vector: Sequence[float]
    turn: Turn


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result. score: cosine similarity, 1 is the same."""

    call_id: str
    tenant: str
    part: int
    start_ms: int
    end_ms: int
    speaker: str
    text: str
    score: float


def collection_of(model: str, dimension: int) -> str:
    """The collection of a model's vectors: vectors of different models cannot be compared."""
    return f"{_PREFIX}{model}_{dimension}"


class VectorStore:
    """All collections of turns. Thread-safe."""

    def __init__(self, settings: QdrantSettings) -> None:
        """Connects to nothing yet. Raises SettingsError if no address is configured."""
        if not settings.url:
            raise SettingsError("no vector store is configured: set AUDIOTEXT_QDRANT__URL, or use `audiotext up`")
        url = urlsplit(settings.url)
        tls: dict[str, Any] = {"verify": client_context(settings)} if url.scheme == "https" else {}
        with warnings.catch_warnings():
            if url.hostname in _LOOPBACK:
                # An API key without TLS is worth the client's warning, but not inside one machine.
                warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
            self._client = QdrantClient(
                url=settings.url,
                api_key=settings.api_key.get_secret_value() if settings.api_key else None,
                timeout=_TIMEOUT_S,
                # It would ask the server for its version right here, and warn when it is away.
                check_compatibility=False,
                **tls,
            )

    def ensure(self, collection: str, dimension: int) -> None:
        """Creates the collection and its payload indexes unless they are there; two may try at the same time."""
        with _translated(collection):
            if not self._client.collection_exists(collection):
                try:
                    self._client.create_collection(
                        collection, vectors_config=VectorParams(size=dimension, distance=Distance.COSINE)
                    )
                except UnexpectedResponse:
                    # Another process was quicker: what counts is that it is there.
                    if not self._client.collection_exists(collection):
                        raise
            # Also when the collection was there: whoever created it may have died before this.
            for field in _INDEXED:
                self._client.create_payload_index(collection, field, field_schema=PayloadSchemaType.KEYWORD)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Writes the points; returns when the store has them."""
        with _translated(collection):
            for start in range(0, len(points), _BATCH):
                batch = [
                    PointStruct(id=point.id, vector=list(point.vector), payload=asdict(point.turn))
                    for point in points[start : start + _BATCH]
                ]
                self._client.upsert(collection, points=batch, wait=True)

    def holds(self, collection: str, ids: Sequence[str], config_hash: str) -> bool:
        """Whether all these points are there and were made with that configuration."""
        try:
            with _translated(collection):
                for start in range(0, len(ids), _BATCH):
                    batch = list(ids[start : start + _BATCH])
                    found = self._client.retrieve(collection, batch, with_payload=["config_hash"])
                    made = {str(point.id) for point in found if (point.payload or {}).get("config_hash") == config_hash}
                    if made != set(batch):
                        return False
        except _CollectionMissingError:
            return False
        return True

    def search(self, collection: str, vector: Sequence[float], *, tenant: str | None, limit: int) -> list[Hit]:
        """The turns nearest to the vector, best first. tenant: whose calls; None = everybody's.

        A collection that is not there yet holds nothing: no hits.
        """
        try:
            with _translated(collection):
                response = self._client.query_points(
                    collection,
                    query=list(vector),
                    query_filter=_where(tenant=tenant) if tenant is not None else None,
                    limit=limit,
                    with_payload=True,
                )
        except _CollectionMissingError:
            return []
        hits = []
        for point in response.points:
            payload = point.payload or {}
            fields = {name: payload[name] for name in Hit.__slots__ if name != "score"}
            hits.append(Hit(**fields, score=point.score))
        return hits

    def delete_call(self, tenant: str, call_id: str) -> None:
        """Removes all turns of a call from every collection."""
        with _translated(call_id):
            names = [item.name for item in self._client.get_collections().collections]
            for name in names:
                if name.startswith(_PREFIX):
                    where = FilterSelector(filter=_where(tenant=tenant, call_id=call_id))
                    self._client.delete(name, points_selector=where, wait=True)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


class _CollectionMissingError(VectorStoreError):
    """A 404. Worth another try: whoever writes creates the collection first."""


def _where(**equal: str) -> Filter:
    return Filter(must=[FieldCondition(key=key, match=MatchValue(value=value)) for key, value in equal.items()])


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turns the client's exceptions into ours."""
    try:
        yield
    except UnexpectedResponse as error:
        status = error.status_code or 0
        message = f"{what}: Qdrant answered {status}: {error.content.decode(errors='replace')[:200]}"
        if status == HTTPStatus.NOT_FOUND:
            raise _CollectionMissingError(message) from error
        # 408 and 429 ask for patience; every other 4xx says the request is wrong.
        if 400 <= status < 500 and status not in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
            raise VectorStoreRefusedError(message) from error
        raise VectorStoreError(message) from error
    except ApiException as error:
        raise VectorStoreError(f"{what}: Qdrant cannot be reached: {error}") from error
