"""Minutes are the same number everywhere: in the API, in the web page's data, in Grafana's panels and in the views of
ClickHouse, also after a replay with another model."""

import json
import uuid
from decimal import Decimal
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from api.app import make_context
from core.settings import ClickHouseSettings, QdrantSettings, S3Settings, Settings
from deploy.grafana.__main__ import DIRECTORY
from sinks.clickhouse.usage_queries import GroupBy
from tests.api.conftest import ADMIN_KEY, WordEmbedder, bearer, client_of
from tests.deploy.panels import expanded
from tests.support.pipeline_events import STARTED_MS
from tests.support.replay_installation import Installation

# Three calls of two tenants: 1.5, 2 and 3 minutes.
CALLS = {"one": ("acme", 90_000), "two": ("acme", 120_000), "three": ("o'neill", 180_000)}
TRUTH = Decimal("6.5")
OF_TENANTS = {"acme": Decimal("3.5"), "o'neill": Decimal(3)}
UNITS = 75 + 100 + 150  # 50 a minute; a replay adds none


@pytest.fixture(scope="module")
def installation(clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings) -> Installation:
    """Three calls, and two replays of all of them: one with another model, one with the old settings."""
    assert clickhouse.dsn is not None
    server = clickhouse.dsn.get_secret_value().rpartition("/")[0]
    own = clickhouse.model_copy(update={"dsn": SecretStr(f"{server}/minutes-{uuid.uuid4().hex[:8]}")})
    settings = Settings(clickhouse=own, s3=s3, qdrant=qdrant, admin_key=SecretStr(ADMIN_KEY))
    made = Installation(settings, WordEmbedder(f"words-{uuid.uuid4().hex}"))
    names = {name: f"{name}-{uuid.uuid4().hex}" for name in CALLS}
    for name, (tenant, duration_ms) in CALLS.items():
        made.process(tenant, names[name], duration_ms)
    made.replay(list(names.values()), model="tiny")
    made.replay(list(names.values()), keep_current=True)
    lines = made.database.query("SELECT count() AS n FROM ledger FINAL")
    assert lines == [{"n": 2 * len(CALLS)}]  # or nothing would be tested
    return made


async def _usage(installation: Installation, group_by: str) -> Any:
    async with client_of(make_context(installation.settings)) as client:
        answer = await client.get("/v1/usage", params={"group_by": group_by}, headers=bearer(ADMIN_KEY))
        assert answer.status == 200
        return await answer.json()


@pytest.mark.parametrize("group_by", get_args(GroupBy))
async def test_the_api_and_the_page(installation: Installation, group_by: str) -> None:
    """Every grouping adds up to the total, and both to the truth; so does the figure at the top of the usage page,
    which shows `transcribed_minutes`, and its table, which shows the groups. The price of other services is for the
    same minutes."""
    usage = await _usage(installation, group_by)
    (total,) = usage["total"]
    assert Decimal(total["minutes"]) == TRUTH
    assert total["units"] == UNITS
    assert sum(Decimal(row["minutes"]) for row in usage["groups"]) == TRUTH
    assert Decimal(usage["transcribed_minutes"]) == TRUTH
    bundled = usage["bundled"][0]
    assert Decimal(bundled["amount"]) == Decimal(bundled["per_minute"]) * TRUTH
    if group_by == "tenant":
        assert {row["group"]: Decimal(row["minutes"]) for row in usage["groups"]} == OF_TENANTS


def _panel(title: str) -> str:
    panels = json.loads((DIRECTORY / "business.json").read_text())["panels"]
    (sql,) = [target["rawSql"] for panel in panels if panel["title"] == title for target in panel["targets"]]
    return expanded(sql, tuple(OF_TENANTS), STARTED_MS)


def test_grafana(installation: Installation) -> None:
    """Each panel that has minutes: the figure, the table by provider and model, the series by tenant."""
    database = installation.database
    assert database.query(_panel("Minutes charged")) == [{"minutes": float(TRUTH)}]
    table = database.query(_panel("By tenant and provider"))
    assert {row["model"] for row in table} == {"base", "tiny"}
    assert sum(Decimal(str(row["minutes"])) for row in table) == TRUTH
    series = database.query(_panel("Minutes by tenant"))
    assert {row["tenant"]: Decimal(str(row["minutes"])) for row in series} == OF_TENANTS


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(duration_ms) AS ms FROM usage_daily",
        "SELECT sum(audio_ms) AS ms FROM bill",
        "SELECT sum(duration_ms) AS ms FROM calls",
    ],
)
def test_views(installation: Installation, sql: str) -> None:
    """The views for analysts: the bill by day, the bill's lines, and the calls."""
    assert installation.database.query(sql) == [{"ms": int(TRUTH * 60_000)}]


def test_segments_that_count(installation: Installation) -> None:
    """Of three calls with three segments each, in two versions, nine segments count."""
    counts = [
        installation.database.query(f"SELECT count() AS n FROM {table}")[0]["n"]
        for table in ("current_segments", "segments FINAL")
    ]
    assert counts == [9, 18]


def test_calls_show_the_version_that_counts(installation: Installation) -> None:
    """After the replays, the view `calls` has one row per call, with the API's status, model and number of versions."""
    rows = installation.database.query("SELECT * FROM calls")
    assert len(rows) == len(CALLS)
    for row in rows:
        call = installation.call(str(row["call_id"]), str(row["tenant"]))
        (part,) = call.parts
        assert part.transcript is not None
        versions = len([version for version in part.versions if version.of == "transcript"])
        assert (row["status"], row["model"], row["transcript_versions"]) == (
            call.status,
            part.transcript.model,
            versions,
        )
        assert (row["status"], row["model"], row["transcript_versions"]) == ("complete", "tiny", 2)
