"""Everything that the stores contain of calls, as plain data that can be compared."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.settings import Settings
from sinks.clickhouse.client import Database
from sinks.object_store import ObjectStore
from sinks.qdrant.store import connect

Rows = list[dict[str, object]]

# What says when a row was inserted, and nothing else.
_TABLES = {
    "events": "SELECT * EXCEPT ingested_at FROM events FINAL ORDER BY ALL",
    "segments": "SELECT * EXCEPT ingested_at FROM segments FINAL ORDER BY ALL",
    "ledger": "SELECT * EXCEPT ingested_at FROM ledger FINAL ORDER BY ALL",
    "calls": "SELECT * FROM calls ORDER BY ALL",
    "usage_daily": "SELECT * FROM usage_daily ORDER BY ALL",
    "stage_latencies": "SELECT * FROM stage_latencies ORDER BY ALL",
}


@dataclass(frozen=True)
class Facts:
    """Contents of the stores.

    objects: SHA-256 by key. tables: rows of each table and view. vectors: payload and vector of each point, by
    collection and id.
    """

    objects: dict[str, str]
    tables: dict[str, Rows]
    vectors: dict[tuple[str, str], object]

    def differences(self, other: "Facts") -> list[str]:
        """Returns the differences as text, a few of each kind."""
        found = _compared("object", self.objects, other.objects)
        found += _compared("vector", self.vectors, other.vectors)
        for table, rows in self.tables.items():
            before, after = ({str(row): row for row in one} for one in (rows, other.tables[table]))
            found += _compared(f"row of {table}", before, after)
        return found

    @property
    def wavs(self) -> int:
        return sum(key.endswith(".wav") for key in self.objects)


def another_model(before: Facts, after: Facts) -> list[str]:
    """Returns the differences from the expected result after a transcription by another model.

    Every part has a second transcript, summary and ledger line, with the provider's cost and price 0. Everything from
    before still exists.
    """
    wrong = [f"{key} is changed or gone" for key, sha in before.objects.items() if after.objects.get(key) != sha]
    wrong += [f"vector {key} is gone" for key in before.vectors.keys() - after.vectors.keys()]
    old, new = ([row for row in one.tables["ledger"] if row["kind"] == "transcription"] for one in (before, after))
    added = [row for row in new if row not in old]
    if len(new) != 2 * len(old) or len(added) != len(old):
        wrong.append(f"{len(old)} lines became {len(new)}, {len(added)} of them new")
    wrong += [f"{row['key']} is charged" for row in added if row["price"] or row["units"]]
    wrong += [f"{row['key']} costs nothing" for row in added if not row["provider_cost"]]
    for kind in ("transcript.ready", "summary.ready", "embedding.ready"):
        counts = [sum(row["type"] == kind for row in one.tables["events"]) for one in (before, after)]
        if counts[1] != 2 * counts[0]:
            wrong.append(f"{counts[0]} {kind} became {counts[1]}")
    return wrong


def gather(settings: Settings) -> Facts:
    """Returns the current contents."""
    store, database = ObjectStore(settings.s3), Database(settings.clickhouse)
    keys = [key for key in store.list() if not key.startswith("~")]
    return Facts(
        objects={key: hashlib.sha256(store.get(key)).hexdigest() for key in keys},
        tables={name: database.query(sql) for name, sql in _TABLES.items()},
        vectors=_vectors(settings),
    )


def count(settings: Settings, event_type: str) -> int:
    """Returns the number of events of that type."""
    rows = Database(settings.clickhouse).query(
        "SELECT uniqExact(event_id) AS n FROM events WHERE type = {t:String}", {"t": event_type}
    )
    return int(str(rows[0]["n"]))


def _vectors(settings: Settings) -> dict[tuple[str, str], object]:
    client = connect(settings.qdrant)
    found: dict[tuple[str, str], object] = {}
    for collection in client.get_collections().collections:
        offset = None
        while True:
            points, offset = client.scroll(collection.name, limit=1000, offset=offset, with_vectors=True)
            found |= {(collection.name, str(point.id)): (point.payload, point.vector) for point in points}
            if offset is None:
                break
    client.close()
    return found


def _compared(what: str, before: Mapping[Any, object], after: Mapping[Any, object]) -> list[str]:
    keys: Sequence[object] = sorted(before.keys() | after.keys(), key=str)
    wrong = [key for key in keys if key not in before or key not in after or before[key] != after[key]]
    return [
        f"{what} {str(key)[:300]}: {'new' if key not in before else 'gone' if key not in after else 'changed'}"
        for key in wrong[:5]
    ] + ([f"… {len(wrong)} of {what} in all"] if len(wrong) > 5 else [])
