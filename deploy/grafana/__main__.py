"""Writes dashboards/*.json."""

import json
from collections.abc import Mapping
from pathlib import Path

from deploy.grafana.business import business
from deploy.grafana.operations import operations
from deploy.grafana.panels import Json

DIRECTORY = Path(__file__).with_name("dashboards")


def files() -> Mapping[str, str]:
    """Returns the contents of the files by their names."""
    dashboards: dict[str, Json] = {"business.json": business(), "operations.json": operations()}
    return {name: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in dashboards.items()}


if __name__ == "__main__":
    for name, content in files().items():
        (DIRECTORY / name).write_text(content)
