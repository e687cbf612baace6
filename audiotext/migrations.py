"""Schemas of the stores: which steps are missing, and how to apply them.

ClickHouse has numbered SQL files, Qdrant has collections whose names contain a version, S3 has a bucket. Services bring
ClickHouse and Qdrant up to date when they first use them. `audiotext migrate` does it before they start and lists the
steps.
"""

from dataclasses import dataclass

from core.settings import Settings
from pipelines.providers import registry
from sinks.clickhouse.client import Database
from sinks.object_store import ObjectStore
from sinks.qdrant.collections import VERSION, collection_of, require_known_schema
from sinks.qdrant.store import VectorStore


@dataclass(frozen=True, slots=True)
class Step:
    """One missing step. pending: the line before it is applied. done: the line afterwards."""

    pending: str
    done: str


def pending(settings: Settings) -> list[Step]:
    """Returns the steps that `apply` would do, without changing anything.

    Raises SchemaTooNewError and the errors of the stores.
    """
    state = Database(settings.clickhouse).inspect()
    state.require_known()
    steps = [Step(f"ClickHouse: {name} is missing", f"ClickHouse: {name} applied") for name in state.pending]
    found = VectorStore(settings.qdrant).inspect().collections
    require_known_schema(found)
    steps += [
        Step(f"Qdrant: {old.name} must become {old.current}", f"Qdrant: {old.name} is now {old.current}")
        for old in found
        if old.version < VERSION
    ]
    name, _ = _collection(settings)
    if name not in [collection.name for collection in found]:
        steps.append(Step(f"Qdrant: {name} is missing", f"Qdrant: {name} created"))
    if not ObjectStore(settings.s3).bucket_exists():
        steps.append(Step(f"S3: bucket {settings.s3.bucket} is missing", f"S3: bucket {settings.s3.bucket} created"))
    return steps


def apply(settings: Settings) -> None:
    """Applies all missing steps. Raises SchemaTooNewError and the errors of the stores."""
    Database(settings.clickhouse).migrate()
    vectors = VectorStore(settings.qdrant)
    vectors.migrate()
    vectors.ensure(*_collection(settings))
    ObjectStore(settings.s3).ensure_bucket()


def _collection(settings: Settings) -> tuple[str, int]:
    """Returns the name and the dimension of the collection for the configured embedder."""
    embedder = registry.embedder(settings)
    return collection_of(embedder.model, embedder.dimension), embedder.dimension
