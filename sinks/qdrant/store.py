"""Speaker turns as vectors in Qdrant. Synchronous: use a thread if an event loop must not wait.

Point ids are deterministic, so writing twice equals writing once.
"""

import warnings
from collections.abc import Collection as CollectionOf
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
    MatchAny,
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
_BATCH = 256  # points per request: 256 of 384 floats are about 2 MB of JSON, well below the server's 32 MB
_CANDIDATES = 4  # candidates of each ranking per hit wanted, before the rankings are fused
_RANK_OFFSET = 2  # of reciprocal rank fusion: a lower offset gives first ranks more weight


class VectorStoreError(UserError):
    """The vector store is unavailable or a request failed. A retry may succeed."""


class VectorStoreRefusedError(VectorStoreError):
    """The vector store refused a request (4xx): it would refuse the same request again."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Payload of a vector: one speaker's turn. Times in ms from the recording's start."""

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
    """Turn and its vector. id: a UUID that is the same for the same turn."""

    id: str
    vector: Sequence[float]
    turn: Turn


@dataclass(frozen=True, slots=True)
class Hit:
    """Search hit. score: the cosine similarity of the turn and the query, up to 1."""

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
    """State of a vector store. version: of the server; collections: those of turns."""

    version: str
    collections: Sequence[Collection]


def connect(settings: QdrantSettings) -> QdrantClient:
    """Returns a client that verifies the server. It does not connect yet. Raises SettingsError."""
    if not settings.url:
        raise SettingsError("no vector store is configured: set AUDIOTEXT_QDRANT__URL, or use `audiotext up`")
    url = urlsplit(settings.url)
    tls: dict[str, Any] = {"verify": client_context(settings)} if url.scheme == "https" else {}
    with warnings.catch_warnings():
        if url.hostname in _LOOPBACK:
            # The client warns of an API key without TLS, which is safe inside one machine.
            warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return QdrantClient(
            url=settings.url,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            timeout=_TIMEOUT_S,
            # The check would query the server here, and warn if it is unavailable.
            check_compatibility=False,
            **tls,
        )


class VectorStore:
    """All collections of turns. Thread-safe."""

    def __init__(self, settings: QdrantSettings) -> None:
        """Does not connect yet. Raises SettingsError if no address is configured."""
        self._client = connect(settings)

    def ensure(self, collection: str, dimension: int) -> None:
        """Creates the collection and its payload indexes unless they exist. Safe for concurrent processes."""
        with _translated(collection):
            collections.create(self._client, collection, dimension)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Writes the points and returns when the store has them."""
        with _translated(collection):
            for start in range(0, len(points), _BATCH):
                batch = [
                    collections.point(point.id, point.vector, asdict(point.turn))
                    for point in points[start : start + _BATCH]
                ]
                self._client.upsert(collection, points=batch, wait=True)

    def has_points(self, collection: str, ids: Sequence[str], config_hash: str) -> bool:
        """True if all these points exist and were made with that configuration."""
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
        call_ids: CollectionOf[str] | None = None,
    ) -> list[Hit]:
        """Returns the turns nearest to the vector, best first. Returns no hits if the collection does not exist yet.

        tenant: the tenant whose calls are searched; None = every tenant's.
        text: the query; turns that contain its words are found as well, rare words first. The order combines both
        rankings (reciprocal rank fusion), so it may differ from the order of the scores.
        min_score: hits below it are dropped, except those that contain a meaningful word of the query (a name, a
        number). None: the nearest turns are hits at any distance.
        call_ids: only calls with one of these ids; None = all.
        """
        where = _searched(tenant, call_ids)
        size = limit * _CANDIDATES
        nearest = QueryRequest(query=list(vector), using=DENSE, filter=where, limit=size, with_payload=True)
        terms = bm25.query_terms(text)
        try:
            with _translated(collection):
                if not terms.indices:
                    by_meaning, by_words = self._client.query_batch_points(collection, [nearest])[0].points, []
                else:
                    words = SparseVector(indices=terms.indices, values=terms.values)
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
        """Returns the cosine similarity of each of these points that still exists to the vector."""
        if not ids:
            return {}
        these = Filter(must=[HasIdCondition(has_id=list(ids))])
        answer = self._client.query_points(
            collection, query=list(vector), using=DENSE, query_filter=these, limit=len(ids), with_payload=False
        )
        return {point.id: point.score for point in answer.points}

    def delete_call(self, tenant: str, call_id: str) -> None:
        """Removes all turns of a call from every collection, older versions first (see collections.upgrade)."""
        with _translated(call_id):
            for collection in collections.collections(self._client):
                where = FilterSelector(filter=_where(tenant=tenant, call_id=call_id))
                with suppress(_CollectionMissingError), _translated(collection.name):  # dropped by a migration just now
                    self._client.delete(collection.name, points_selector=where, wait=True)

    def inspect(self) -> Inspection:
        """Returns the server's version and its collections of turns, without changes."""
        with _translated("collections"):
            return Inspection(self._client.info().version, collections.collections(self._client))

    def migrate(self) -> list[str]:
        """Migrates every collection of turns to the current version. Returns one line per migration.

        Raises SchemaTooNewError if a collection is newer.
        """
        done = []
        with _translated("migration"):
            found = collections.collections(self._client)
            collections.require_known_schema(found)
            for old in found:
                if old.version < collections.VERSION:
                    points = collections.upgrade(self._client, old)
                    done.append(f"{old.name}: {number_of(points, 'turn is', 'turns are')} now in {old.current}")
        return done

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def require_known_schema(settings: Settings) -> None:
    """Raises SchemaTooNewError if a newer version has migrated the collections. Accepts an unavailable store."""
    store = VectorStore(settings.qdrant)
    try:
        collections.require_known_schema(store.inspect().collections)
    except VectorStoreError:
        return
    finally:
        store.close()


def _hit(point: ScoredPoint, score: float) -> Hit:
    payload = point.payload or {}
    return Hit(**{name: payload[name] for name in Hit.__slots__ if name != "score"}, score=score)


def _fused(*rankings: Sequence[ExtendedPointId]) -> list[ExtendedPointId]:
    """Fuses the rankings by reciprocal rank fusion, best first. Of equals those of the first ranking come first."""
    weights: dict[ExtendedPointId, float] = {}
    for ranking in rankings:
        for rank, point_id in enumerate(ranking):
            weights[point_id] = weights.get(point_id, 0.0) + 1 / (_RANK_OFFSET + rank)
    return sorted(weights, key=lambda point_id: -weights[point_id])


class _CollectionMissingError(VectorStoreError):
    """Response 404. A retry may succeed: writers create the collection first."""


def _where(**equal: str) -> Filter:
    return Filter(must=[FieldCondition(key=key, match=MatchValue(value=value)) for key, value in equal.items()])


def _searched(tenant: str | None, call_ids: CollectionOf[str] | None) -> Filter | None:
    """Returns the filter of a search; None if it covers everything."""
    found = [] if tenant is None else [FieldCondition(key="tenant", match=MatchValue(value=tenant))]
    if call_ids is not None:
        found.append(FieldCondition(key="call_id", match=MatchAny(any=sorted(call_ids))))
    return Filter(must=[*found]) if found else None


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turns the client's exceptions into ours. subject: begins the message."""
    try:
        yield
    except UnexpectedResponse as error:
        status = error.status_code or 0
        message = f"{subject}: Qdrant answered {status}: {error.content.decode(errors='replace')[:200]}"
        if status == HTTPStatus.NOT_FOUND:
            raise _CollectionMissingError(message) from error
        # 408 and 429 mean that a later retry may succeed; every other 4xx means that the request is wrong.
        if 400 <= status < 500 and status not in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
            raise VectorStoreRefusedError(message) from error
        raise VectorStoreError(message) from error
    except ApiException as error:
        raise VectorStoreError(f"{subject}: Qdrant cannot be reached: {error}") from error
