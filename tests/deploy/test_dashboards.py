"""Grafana's dashboards and Prometheus' alerts: every query runs, on real rows, or asks only for metrics there are."""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from jsonschema import Draft7Validator
from pydantic import SecretStr

from audiotext.stack.services import SERVICES
from core import metrics
from core.settings import ClickHouseSettings
from deploy.grafana.__main__ import DIRECTORY, files
from schemas.artifacts import Segment, Transcript, Word
from schemas.events import AnyEvent, UsageRecorded
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import Row, event_row, ledger_row, segment_rows
from tests.deploy import panels
from tests.support.call_events import T0, Call

ROOT = Path(__file__).parents[2]
TENANTS = ("acme", "o'neill")  # a quote in a name must break no query
HOUR = 3_600_000
# Of Prometheus itself, and of every process.
_BUILT_IN = {"up", "process_resident_memory_bytes"}


@dataclass(frozen=True)
class Query:
    """A query of a panel."""

    panel: str
    text: str


def _panels() -> Iterator[dict[str, Any]]:
    for path in sorted(DIRECTORY.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield panel


def _queries(field: str) -> list[Query]:
    return [
        Query(panel["title"], target[field]) for panel in _panels() for target in panel["targets"] if field in target
    ]


SQL = _queries("rawSql")
PROMQL = _queries("expr")
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


def test_the_files_are_what_is_written_in_python() -> None:
    """`python -m deploy.grafana` writes them; a change by hand would be lost the next time."""
    assert {path.name: path.read_text() for path in DIRECTORY.glob("*.json")} == files()


def _tell(call: Call) -> list[Row]:
    transcript = Transcript(
        call_id=call.id,
        language="en",
        duration_ms=60_000,
        provider="whisper",
        model="base",
        segments=[
            Segment(
                start_ms=0,
                end_ms=900,
                channel=0,
                speaker="inbound",
                text="seven words",
                words=[Word(start_ms=0, end_ms=900, text="word", confidence=1) for _ in range(7)],
            )
        ],
    )
    events: list[AnyEvent] = [*call.complete(), call.failed("summarize")]
    usage: UsageRecorded = call.usage()
    return [*map(event_row, events), ledger_row(usage), *segment_rows(call.transcript(), transcript)]


@pytest.fixture(scope="module")
def database(clickhouse: ClickHouseSettings) -> Database:
    """Six calls of two tenants over six hours, one sold below cost, one that is under way and one that failed; every
    row inserted twice."""
    assert clickhouse.dsn is not None
    server = clickhouse.dsn.get_secret_value().rpartition("/")[0]
    database = Database(clickhouse.model_copy(update={"dsn": SecretStr(f"{server}/dashboards-{uuid.uuid4().hex[:8]}")}))
    calls = [Call(f"CA{number}", TENANTS[number % 2], T0 + number * HOUR) for number in range(6)]
    rows = [row for call in calls for row in _tell(call)]
    rows += [ledger_row(calls[0].usage(cost="2", price="0", part=2))]
    rows += [event_row(Call("CA-live", TENANTS[0], T0 + 60_000).started())]
    failed = Call("CA-failed", TENANTS[0], T0 + 120_000)
    rows += [event_row(event) for event in (failed.started(), failed.failed("recorder"))]
    database.insert(rows)
    database.insert(rows)
    return database


def expanded(sql: str) -> str:
    """The SQL as Grafana would send it."""
    return panels.expanded(sql, TENANTS, T0)


@pytest.mark.parametrize("query", SQL, ids=lambda query: query.panel)
def test_every_clickhouse_panel_shows_something(query: Query, database: Database) -> None:
    """What does this test do? Runs the panel's SQL on real rows, macros expanded.

    A panel that is empty, or full of nothing, looks like a quiet day. A series over time needs a column `time`.
    """
    rows = database.query(expanded(query.text))
    assert rows
    assert any(isinstance(value, int | float) and value for row in rows for value in row.values()) or rows[0]["error"]
    if "$__timeInterval" in query.text:
        times = [row["time"] for row in rows]
        assert times == sorted(times)  # type: ignore[type-var]  # they are datetimes
        assert len(set(times)) == 6


def test_rows_told_twice_are_counted_once(database: Database) -> None:
    """Every row is there twice: calls, minutes, money and words must be what they were before."""

    def one(title: str) -> dict[str, object]:
        return database.query(expanded(next(query.text for query in SQL if query.panel == title)))[0]

    assert one("Calls") == {"calls": 8}
    assert one("Not complete") == {"calls": 2}
    assert one("Failed") == {"calls": 1}
    assert one("Minutes charged") == {"minutes": 7.0}
    assert one("Words") == {"words": 6 * 7}
    assert one("Margin") == {"margin": pytest.approx(6 * (0.01 - 0.0005) - 2)}
    assert one("Sold below cost")["loss"] == pytest.approx(2 + 3 * (0.0005 - 0.01))
    gaps = database.query(expanded(next(query.text for query in SQL if query.panel == "Missing audio by reason")))
    assert {(row["reason"], row["seconds"]) for row in gaps} == {("lost", 0.4)}


def test_variables_have_values(database: Database) -> None:
    """A choice that is empty would make every panel empty."""
    variables = json.loads((DIRECTORY / "business.json").read_text())["templating"]["list"]
    found = {variable["name"]: database.query(variable["query"]) for variable in variables}
    assert found == {
        "tenant": [{"tenant": tenant} for tenant in sorted(TENANTS)],
        "provider": [{"provider": "whisper"}],
    }


def test_readers_may_read_calls_but_no_keys(database: Database) -> None:
    """Grafana and analysts may read every table and view in ClickHouse, except for API keys and the migrations.

    A failure means that a query is refused (views read the tables with the rights of the user), or that they can read
    the hashes of keys.
    """
    users = (ROOT / "deploy/compose/clickhouse-users.xml").read_text()
    granted = set(re.findall(r"ON audiotext\.(\w+)<", users))
    assert all(users.count(f"ON audiotext.{name}<") == 2 for name in granted)
    tables = database.query("SELECT name FROM system.tables WHERE database = currentDatabase()")
    assert granted == {str(row["name"]) for row in tables} - {"api_keys", "issued_tokens", "schema_migrations"}


def _names(expression: str) -> set[str]:
    names: set[str] = set()

    def seen(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            names.add(node.name)
        return True

    parsed = promql_parser.parse(expression.replace("$__rate_interval", "1m"))
    promql_parser.walk(parsed, seen)
    return names


def _exposed() -> set[str]:
    found = set(_BUILT_IN)
    for metric in metrics.all_metrics():
        found.add(metric.exposed_name)
        if metric.kind == "histogram":
            found |= {f"{metric.exposed_name}{part}" for part in ("_bucket", "_sum", "_count")}
    return found


@pytest.mark.parametrize(
    "query", [*PROMQL, *(Query(rule["alert"], rule["expr"]) for rule in RULES)], ids=lambda q: q.panel
)
def test_every_promql_asks_for_metrics_there_are(query: Query) -> None:
    """A misspelt metric is an alert that never fires."""
    names = _names(query.text)
    assert names
    assert names <= _exposed()


_RULE_FILE = {
    "type": "object",
    "required": ["groups"],
    "additionalProperties": False,
    "properties": {
        "groups": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "rules"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "interval": {"type": "string"},
                    "rules": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["alert", "expr", "labels", "annotations"],
                            "additionalProperties": False,
                            "properties": {
                                "alert": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
                                "expr": {"type": "string"},
                                "for": {"type": "string", "pattern": r"^(\d+[smhd])+$"},
                                "labels": {
                                    "type": "object",
                                    "required": ["severity"],
                                    "properties": {"severity": {"enum": ["page", "ticket"]}},
                                },
                                "annotations": {
                                    "type": "object",
                                    "required": ["summary", "action"],
                                    "additionalProperties": {"type": "string"},
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}


def test_the_alerts_are_rules() -> None:
    """Prometheus would refuse to start on a file that is none; each says what has happened and what to do, and labels
    used in its words are labels its expression leaves."""
    Draft7Validator(_RULE_FILE).validate(yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text()))
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            kept = re.search(rf"by \([^)]*\b{label}\b", rule["expr"]) or not re.search(r"\b(sum|max)\b", rule["expr"])
            assert kept, f"{rule['alert']}: {label}"


def test_what_loses_audio_or_money_wakes_somebody() -> None:
    """The metrics whose meaning is "lost" each have an alert, and it pages."""
    paged = set().union(*(_names(rule["expr"]) for rule in RULES if rule["labels"]["severity"] == "page"))
    assert paged >= {
        "audiotext_gateway_dropped_audio_ms_total",
        "audiotext_gateway_buffer_bytes",
        "audiotext_gateway_refused_sockets_total",
        "audiotext_recorder_disk_free_bytes",
        "audiotext_recorder_finish_failures_total",
        "audiotext_sink_records_total",
        "audiotext_consumer_lag_records",
    }


def test_prometheus_asks_every_service() -> None:
    """One target a service; a service that is not asked is never down."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    ours = next(job for job in config["scrape_configs"] if job["job_name"] == "audiotext")
    assert [target["labels"]["service"] for target in ours["static_configs"]] == list(SERVICES)


def test_panels_have_sources_and_words() -> None:
    """Each panel names a data source that is provisioned, says what it tells, and fits the grid."""
    provisioned = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/audiotext.yml").read_text())
    uids = {source["uid"] for source in provisioned["datasources"]}
    for panel in _panels():
        assert panel["datasource"]["uid"] in uids
        assert panel["description"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
