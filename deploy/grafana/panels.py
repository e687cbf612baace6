"""Parts of a Grafana dashboard: panels of two data sources on a grid."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

CLICKHOUSE: Json = {"type": "grafana-clickhouse-datasource", "uid": "clickhouse"}
PROMETHEUS: Json = {"type": "prometheus", "uid": "prometheus"}
_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """Panel with one chart, number or table.

    kind: stat, timeseries, table. queries: SQL, or PromQL as (legend, expression). about: the meaning, and values that
    need attention. width: of 24 columns. height: in rows of 30 px. steps: colours, each from a value on.
    """

    title: str
    about: str
    queries: Sequence[str | tuple[str, str]]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    steps: Sequence[tuple[float | None, str]] = field(default_factory=tuple)

    def json(self, number: int, x: int, y: int) -> Json:
        """Returns the panel's JSON at this position."""
        sql = isinstance(self.queries[0], str)
        defaults: Json = {"unit": self.unit}
        if self.steps:
            defaults["color"] = {"mode": "thresholds"}
            defaults["thresholds"] = {
                "mode": "absolute",
                "steps": [{"value": value, "color": colour} for value, colour in self.steps],
            }
        if self.kind == "timeseries" and self.stacked:
            defaults["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 30, "drawStyle": "bars"}
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.about,
            "datasource": CLICKHOUSE if sql else PROMETHEUS,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if self.kind == "timeseries" else {},
            "targets": [self._target(chr(ord("A") + index), query) for index, query in enumerate(self.queries)],
        }

    def _target(self, ref: str, query: str | tuple[str, str]) -> Json:
        if isinstance(query, tuple):
            legend, expression = query
            return {"refId": ref, "datasource": PROMETHEUS, "expr": expression, "legendFormat": legend}
        series = self.kind == "timeseries"
        return {
            "refId": ref,
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "queryType": "timeseries" if series else "table",
            "format": 0 if series else 1,
            "rawSql": query.strip(),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """Heading with the panels below it."""

    title: str
    panels: Sequence[Panel]


def dashboard(uid: str, title: str, about: str, rows: Sequence[Row], *, variables: Sequence[Json] = ()) -> Json:
    """Returns a dashboard: the panels of each row from left to right, wrapped, below the row's heading."""
    panels: list[Json] = []
    y = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
            }
        )
        y += 1
        x = highest = 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, highest = 0, y + highest, 0
            panels.append(panel.json(len(panels) + 1, x, y))
            x, highest = x + panel.width, max(highest, panel.height)
        y += highest
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["audiotext"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "timezone": "utc",
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "panels": panels,
    }


def variable(name: str, label: str, sql: str) -> Json:
    """Returns a variable with several possible values. At first all are selected."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": CLICKHOUSE,
        "query": sql,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }
