"""The stores' schemas, all together: what is applied and what is missing.

ClickHouse has numbered SQL files, Qdrant collections whose names carry a version, S3 a bucket. Services bring
ClickHouse and Qdrant up to date themselves when they first use them; `audiotext migrate` does it before they start,
and tells.
"""

from core.settings import Settings
from pipelines.providers import registry
from sinks.clickhouse.client import Database
from sinks.object_store import ObjectStore
from sinks.qdrant.collections import VERSION, collection_of, require_known_schema
from sinks.qdrant.store import VectorStore


def pending(settings: Settings) -> list[str]:
    """What `apply` would do, a line each. Changes nothing. Raises SchemaTooNewError, and what the stores raise."""
    state = Database(settings.clickhouse).inspect()
    state.require_known()
    todo = [f"ClickHouse: {name} is to be applied" for name in state.pending]
    found = VectorStore(settings.qdrant).inspect().collections
    require_known_schema(found)
    todo += [f"Qdrant: {old.name} is to become {old.current}" for old in found if old.version < VERSION]
    name, _ = _collection(settings)
    if name not in [collection.name for collection in found]:
        todo.append(f"Qdrant: {name} is to be created")
    if not ObjectStore(settings.s3).bucket_exists():
        todo.append(f"S3: bucket {settings.s3.bucket} is to be created")
    return todo


def apply(settings: Settings) -> None:
    """Does all of it; what is done already is left alone. Raises SchemaTooNewError, and what the stores raise."""
    Database(settings.clickhouse).migrate()
    vectors = VectorStore(settings.qdrant)
    vectors.migrate()
    vectors.ensure(*_collection(settings))
    ObjectStore(settings.s3).ensure_bucket()


def _collection(settings: Settings) -> tuple[str, int]:
    embedder = registry.embedder(settings)
    return collection_of(embedder.model, embedder.dimension), embedder.dimension
