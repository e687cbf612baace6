"""Schema of the collections, its version in their names, and the migration from one version to the next.

Version 1 (no suffix) had one unnamed vector. Version 2 has a named dense vector and the terms of the text
(sinks.qdrant.bm25), so that names and numbers are found by their spelling as well. A vector cannot be added to an
existing collection, so each version is a separate collection. A point keeps its id in a migration.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_client.models import (
    Distance,
    Modifier,
    PayloadSchemaType,
    PointIdsList,
    PointStruct,
    SparseVector,
    SparseVectorParams,
    VectorParams,
)

from sinks.qdrant import bm25
from sinks.schema_version import SchemaTooNewError

VERSION = 2
DENSE = "dense"
TERMS = "terms"
_PREFIX = "turns_"
_NAME = re.compile(rf"(?P<stem>{_PREFIX}.+_(?P<dimension>\d+?))(?:_v(?P<version>\d+))?")
_INDEXED = ("tenant", "call_id")  # fields by which searches and deletions filter
_BATCH = 256  # points per request: 256 of 384 floats are about 2 MB of JSON, well below the server's 32 MB


@dataclass(frozen=True, slots=True)
class Collection:
    """Collection of turns. stem: its name without the version."""

    name: str
    stem: str
    dimension: int
    version: int

    @property
    def current(self) -> str:
        """Name of the collection at the current version."""
        return f"{self.stem}_v{VERSION}"


def collection_of(model: str, dimension: int) -> str:
    """Returns the collection of a model's vectors at the current version.

    Each model has its own collection, since vectors of different models cannot be compared.
    """
    return f"{_PREFIX}{model}_{dimension}_v{VERSION}"


def collections(client: QdrantClient) -> list[Collection]:
    """Returns all collections of turns, older versions first."""
    names = (item.name for item in client.get_collections().collections)
    found = [parsed for name in names if (parsed := parse(name))]
    return sorted(found, key=lambda collection: (collection.version, collection.name))


def parse(name: str) -> Collection | None:
    """Returns the collection with this name, or None if the name is not one of ours."""
    match = _NAME.fullmatch(name)
    if not match:
        return None
    return Collection(name, match["stem"], int(match["dimension"]), int(match["version"] or 1))


def require_known_schema(found: Sequence[Collection]) -> None:
    """Raises SchemaTooNewError if one of them is of a version we do not know."""
    newest = max((collection.version for collection in found), default=0)
    if newest > VERSION:
        raise SchemaTooNewError("Qdrant", str(newest), str(VERSION))


def create(client: QdrantClient, name: str, dimension: int) -> None:
    """Creates the collection and its payload indexes unless they are there; two may try at the same time."""
    if not client.collection_exists(name):
        try:
            client.create_collection(
                name,
                vectors_config={DENSE: VectorParams(size=dimension, distance=Distance.COSINE)},
                sparse_vectors_config={TERMS: SparseVectorParams(modifier=Modifier.IDF)},
            )
        except UnexpectedResponse:
            # Another process may have created it.
            if not client.collection_exists(name):
                raise
    # Also for an existing collection: its creator may have died before this step.
    for field in _INDEXED:
        client.create_payload_index(name, field, field_schema=PayloadSchemaType.KEYWORD)


def point(point_id: str | int | UUID, vector: Sequence[float], payload: dict[str, object]) -> PointStruct:
    """Returns a point as this version stores it: the vector, and the terms of the text in its payload."""
    terms = bm25.document_terms(str(payload.get("text", "")))
    return PointStruct(
        id=point_id,
        vector={DENSE: list(vector), TERMS: SparseVector(indices=terms.indices, values=terms.values)},
        payload=payload,
    )


def upgrade(client: QdrantClient, old: Collection) -> int:
    """Copies an old collection's points into the current one and drops it. Returns the number of points.

    Searches work meanwhile. The migration may be interrupted, repeated, or run twice at the same time. A call that is
    erased meanwhile stays erased (an erasure deletes from older versions first).
    """
    create(client, old.current, old.dimension)
    try:
        # Repeats while other processes still write there, so that only copied points are dropped.
        while (copied := _copy(client, old)) != client.count(old.name, exact=True).count:
            pass
    except UnexpectedResponse:
        if client.collection_exists(old.name):
            raise
        return 0  # another process has finished the migration
    client.delete_collection(old.name)
    return copied


def _copy(client: QdrantClient, old: Collection) -> int:
    copied, offset = 0, None
    while True:
        records, offset = client.scroll(old.name, limit=_BATCH, offset=offset, with_payload=True, with_vectors=True)
        points = []
        for record in records:
            if not isinstance(record.vector, list):
                raise ValueError(f"{old.name}: point {record.id} has no unnamed vector, so it cannot be copied")
            points.append(point(record.id, cast("list[float]", record.vector), dict(record.payload or {})))
        if points:
            client.upsert(old.current, points=points, wait=True)
            ids = [record.id for record in records]
            existing = {record.id for record in client.retrieve(old.name, ids, with_payload=False)}
            if erased := [point_id for point_id in ids if point_id not in existing]:
                client.delete(old.current, points_selector=PointIdsList(points=erased), wait=True)
            copied += len(existing)
        if offset is None:
            return copied
