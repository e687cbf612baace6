"""The collections' schema, its version in their names, and the way from one version to the next.

Version 1 (no suffix) had one nameless vector. Version 2 has a dense vector by name and, beside it, the terms that were
said (sinks.qdrant.bm25), so that a name or a number is found by its letters too. A vector cannot be added to a
collection
that exists, so each version is a collection of its own, and a point keeps its id on the way.
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
_INDEXED = ("tenant", "call_id")  # what searches and deletions filter by
_BATCH = 256  # points a request: 256 of 384 floats are about 2 MB of JSON, well below the server's 32 MB


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of turns. stem: its name without the version."""

    name: str
    stem: str
    dimension: int
    version: int

    @property
    def current(self) -> str:
        """Its name at our version."""
        return f"{self.stem}_v{VERSION}"


def collection_of(model: str, dimension: int) -> str:
    """The collection of a model's vectors, at our version: vectors of different models cannot be compared."""
    return f"{_PREFIX}{model}_{dimension}_v{VERSION}"


def collections(client: QdrantClient) -> list[Collection]:
    """All collections of turns, older versions first."""
    names = (item.name for item in client.get_collections().collections)
    found = [parsed for name in names if (parsed := parse(name))]
    return sorted(found, key=lambda collection: (collection.version, collection.name))


def parse(name: str) -> Collection | None:
    """The collection that a name tells of; None for what is not ours."""
    match = _NAME.fullmatch(name)
    if not match:
        return None
    return Collection(name, match["stem"], int(match["dimension"]), int(match["version"] or 1))


def refuse_newer(found: Sequence[Collection]) -> None:
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
            # Another process was quicker: what counts is that it is there.
            if not client.collection_exists(name):
                raise
    # Also when the collection was there: whoever created it may have died before this.
    for field in _INDEXED:
        client.create_payload_index(name, field, field_schema=PayloadSchemaType.KEYWORD)


def point(point_id: str | int | UUID, vector: Sequence[float], payload: dict[str, object]) -> PointStruct:
    """A point as this version stores it: the vector, and the terms of the text in its payload."""
    said = bm25.of_document(str(payload.get("text", "")))
    return PointStruct(
        id=point_id,
        vector={DENSE: list(vector), TERMS: SparseVector(indices=said.indices, values=said.values)},
        payload=payload,
    )


def upgrade(client: QdrantClient, old: Collection) -> int:
    """Brings an old collection's points into the current one and drops it. Returns how many points it had.

    Searches go on meanwhile. It may be cut off, repeated, or run twice at the same time; a call that is erased
    meanwhile stays erased (erasure takes older versions first).
    """
    create(client, old.current, old.dimension)
    try:
        # Again as long as somebody still writes there: nothing is dropped that has not been copied.
        while (copied := _copy(client, old)) != client.count(old.name, exact=True).count:
            pass
    except UnexpectedResponse:
        if client.collection_exists(old.name):
            raise
        return 0  # another process was quicker
    client.delete_collection(old.name)
    return copied


def _copy(client: QdrantClient, old: Collection) -> int:
    copied, offset = 0, None
    while True:
        records, offset = client.scroll(old.name, limit=_BATCH, offset=offset, with_payload=True, with_vectors=True)
        points = []
        for record in records:
            if not isinstance(record.vector, list):
                raise ValueError(f"{old.name}: point {record.id} has no plain vector, so it cannot be copied")
            points.append(point(record.id, cast("list[float]", record.vector), dict(record.payload or {})))
        if points:
            client.upsert(old.current, points=points, wait=True)
            ids = [record.id for record in records]
            there = {record.id for record in client.retrieve(old.name, ids, with_payload=False)}
            if erased := [point_id for point_id in ids if point_id not in there]:
                client.delete(old.current, points_selector=PointIdsList(points=erased), wait=True)
            copied += len(there)
        if offset is None:
            return copied
