"""Which calls a replay is about, of those that are in ClickHouse."""

import uuid

import pytest

from core.settings import ClickHouseSettings, QdrantSettings, S3Settings
from pipelines.replay.selection import NothingToReplayError, Selection, choose
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore
from tests.api.conftest import NOON, Put


def test_ids_and_filters_together_mean_both(
    clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings
) -> None:
    """Names two calls, of which one fits the query, and none the time: that is an error which names who is left out,
    and says that it is the filters. A filter that did not count beside ids would have calls processed again, for
    money, that somebody had taken care to leave out."""
    put = Put(Database(clickhouse), ObjectStore(s3), VectorStore(qdrant))
    store, tenant = CallStore(clickhouse), f"t-{uuid.uuid4().hex}"
    red, blue = f"red-{uuid.uuid4().hex}", f"blue-{uuid.uuid4().hex}"
    for name in (red, blue):
        put.call(tenant, name, "recorded")

    def chosen(**filters: object) -> list[str]:
        selection = Selection(call_ids=(red, blue), tenant=tenant, **filters)  # type: ignore[arg-type]
        return [part.call_id for part in choose(store, selection, "recording").parts]

    assert sorted(chosen()) == sorted([red, blue])
    with pytest.raises(NothingToReplayError, match=f"exclude {red}"):
        chosen(query=blue.upper())
    with pytest.raises(NothingToReplayError, match=r"exclude .*red"):
        chosen(until_ms=NOON)
