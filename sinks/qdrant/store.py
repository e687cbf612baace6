"""Speaker turns as vectors in Qdrant. Synchronous (the client is used so): call it from a thread when an event loop
must not wait.

Point ids are deterministic, so writing twice is writing once.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse
from qdrant_client.models import (
    ExtendedPointId,
    FieldCondition,
    Filter,
    FilterSelector,
    HasIdCondition,
    MatchValue,
    QueryRequest,
    ScoredPoint,
    SparseVector,
)

from core.counting import number_of
from core.errors import UserError
from core.settings import QdrantSettings, Settings, SettingsError
from core.tls import client_context
from sinks.qdrant import bm25, collections
from sinks.qdrant.collections import DENSE, TERMS, Collection, collection_of

__all__ = [
    "Hit",
    "Inspection",
    "Point",
    "Turn",
    "VectorStore",
    "VectorStoreError",
    "VectorStoreRefusedError",
    "collection_of",
]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TIMEOUT_S = 10
_BATCH = 256  # points a request: 256 of 384 floats are about 2 MB of JSON, well below the server's 32 MB
_CANDIDATES = 4  # times the hits wanted are taken of each ranking before they are made one
_RANK_OFFSET = 2  # of reciprocal rank fusion: how much less a second place counts than a first


class VectorStoreError(UserError):
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
    """A search result. score: the cosine similarity of the turn and the query, up to 1."""

    call_id: str
    tenant: str
    part: int
    start_ms: int
    end_ms: int
    speaker: str
    text: str
    transcript_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a vector store is. version: of the server; collections: those of turns."""

    version: str
    collections: Sequence[Collection]


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
            collections.create(self._client, collection, dimension)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Writes the points; returns when the store has them."""
        with _translated(collection):
            for start in range(0, len(points), _BATCH):
                batch = [
                    collections.point(point.id, point.vector, asdict(point.turn))
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

    def search(
        self,
        collection: str,
        vector: Sequence[float],
        *,
        tenant: str | None,
        limit: int,
        text: str = "",
        min_score: float | None = None,
    ) -> list[Hit]:
        """The turns nearest to the vector, best first. tenant: whose calls; None = everybody's.

        text: the query; turns that say its words are found as well, rare words above all. The order is that of both
        rankings (reciprocal rank fusion); it is not always that of the scores.
        min_score: hits below are left out, except those that say a word of the query that carries meaning (a name, a
        number). None: the nearest turns are hits, however far they are.
        A collection that is not there yet holds nothing: no hits.
        """
        where = _where(tenant=tenant) if tenant is not None else None
        size = limit * _CANDIDATES
        nearest = QueryRequest(query=list(vector), using=DENSE, filter=where, limit=size, with_payload=True)
        asked = bm25.of_query(text)
        try:
            with _translated(collection):
                if not asked.indices:
                    by_meaning, by_words = self._client.query_batch_points(collection, [nearest])[0].points, []
                else:
                    words = SparseVector(indices=asked.indices, values=asked.values)
                    lexical = QueryRequest(query=words, using=TERMS, filter=where, limit=size, with_payload=True)
                    by_meaning, by_words = (
                        answer.points for answer in self._client.query_batch_points(collection, [nearest, lexical])
                    )
                scores = {point.id: point.score for point in by_meaning}
                far = [point.id for point in by_words if point.id not in scores]
                scores |= self._similarities(collection, vector, far)
        except _CollectionMissingError:
            return []
        points = {point.id: point for point in (*by_meaning, *by_words)}
        order = _fused([point.id for point in by_meaning], [point.id for point in by_words])
        hits = [_hit(points[point_id], scores[point_id]) for point_id in order if point_id in scores]
        found = [hit for hit in hits if min_score is None or hit.score >= min_score or bm25.share_word(text, hit.text)]
        return found[:limit]

    def _similarities(
        self, collection: str, vector: Sequence[float], ids: Sequence[ExtendedPointId]
    ) -> dict[ExtendedPointId, float]:
        """The cosine similarities of these points, those that are still there, to the vector."""
        if not ids:
            return {}
        these = Filter(must=[HasIdCondition(has_id=list(ids))])
        answer = self._client.query_points(
            collection, query=list(vector), using=DENSE, query_filter=these, limit=len(ids), with_payload=False
        )
        return {point.id: point.score for point in answer.points}

    def delete_call(self, tenant: str, call_id: str) -> None:
        """Removes all turns of a call from every collection, of older versions first (see vector_schema.upgrade)."""
        with _translated(call_id):
            for collection in collections.collections(self._client):
                where = FilterSelector(filter=_where(tenant=tenant, call_id=call_id))
                with suppress(_CollectionMissingError), _translated(collection.name):  # migrated just now
                    self._client.delete(collection.name, points_selector=where, wait=True)

    def inspect(self) -> Inspection:
        """The server and its collections of turns. Changes nothing."""
        with _translated("collections"):
            return Inspection(self._client.info().version, collections.collections(self._client))

    def migrate(self) -> list[str]:
        """Brings every collection of turns to our version. Returns what was done, a line each.

        Raises SchemaTooNewError if one is newer.
        """
        done = []
        with _translated("migration"):
            found = collections.collections(self._client)
            collections.refuse_newer(found)
            for old in found:
                if old.version < collections.VERSION:
                    points = collections.upgrade(self._client, old)
                    done.append(f"{old.name}: {number_of(points, 'turn is', 'turns are')} now in {old.current}")
        return done

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def refuse_newer(settings: Settings) -> None:
    """Raises SchemaTooNewError if a newer version has migrated the collections. A store that is away is let pass."""
    store = VectorStore(settings.qdrant)
    try:
        collections.refuse_newer(store.inspect().collections)
    except VectorStoreError:
        return
    finally:
        store.close()


def _hit(point: ScoredPoint, score: float) -> Hit:
    payload = point.payload or {}
    return Hit(**{name: payload[name] for name in Hit.__slots__ if name != "score"}, score=score)


def _fused(*rankings: Sequence[ExtendedPointId]) -> list[ExtendedPointId]:
    """All that the rankings have, best first: reciprocal rank fusion. Of equals the first ranking's come first."""
    weights: dict[ExtendedPointId, float] = {}
    for ranking in rankings:
        for rank, point_id in enumerate(ranking):
            weights[point_id] = weights.get(point_id, 0.0) + 1 / (_RANK_OFFSET + rank)
    return sorted(weights, key=lambda point_id: -weights[point_id])


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
