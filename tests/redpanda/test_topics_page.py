"""Tests of docs/topics.md against the code, because other programs rely on that page."""

import re
from pathlib import Path

from audiotext.stack.services import SERVICES
from pipelines.stages import STAGES
from redpanda import topics
from schemas.json_schema import EVENTS, MEDIA_HEADERS, models, schemas
from schemas.topics import Topic

_PAGE = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
_COMMANDS = {"`audiotext dlq`", "`audiotext replay`", "`audiotext erase`", "`audiotext topics`"}
_UNITS = {"hour": 3_600_000, "day": 86_400_000}


def _rows(heading: str) -> dict[str, list[str]]:
    """Returns the cells of the table under that heading, by its first column."""
    table = _PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    return {row[0]: row[1:] for row in cells[1:]}


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _ms(retention: str) -> int:
    if retention == "for ever":
        return -1
    number, unit = retention.split()
    return int(number) * _UNITS[unit.rstrip("s")]


def test_page_lists_every_topic_with_its_retention() -> None:
    """Compares the table with redpanda/topics.yaml, in both directions."""
    listed = {_names(name)[0]: _ms(cells[1]) for name, cells in _rows("Topics").items()}
    assert listed == {topic.value: spec.retention_ms for topic, spec in topics.load().topics.items()}


def test_page_lists_the_topic_of_every_event_type() -> None:
    """Compares the table with schemas.json_schema.EVENTS, and that with the models: each type must have a topic."""
    listed = {_names(name)[0]: tuple(_names(cells[0])) for name, cells in _rows("Topics").items()}
    del listed[Topic.CALL_MEDIA]
    assert listed == {topic.value: types for topic, types in EVENTS.items()}
    events = {name for name, model in models().items() if "event_id" in model.model_fields}
    assert {name for types in EVENTS.values() for name in types} == events


def test_writers_and_readers_are_services() -> None:
    """Compares the writers and readers of each topic with the list of services and commands."""
    for cells in _rows("Topics").values():
        for cell in cells[2:4]:
            assert set(cell.split(", ")) <= SERVICES.keys() | _COMMANDS


def test_writers_and_readers_agree_with_the_stages() -> None:
    """Compares the services of each row with the table of stages: a stage reads and writes exactly these topics.

    Two topics have a reader besides: the replayer reads the audio of a call that it records again, and the transcriber
    waits for callbacks.
    """
    extra = {(Topic.CALL_MEDIA, "replayer"), (Topic.PROVIDER_NOTICES, "transcriber")}
    rows = {Topic(_names(name)[0]): cells for name, cells in _rows("Topics").items()}
    ours = {spec.service for spec in STAGES}
    written = {(topic, name) for topic, cells in rows.items() for name in cells[2].split(", ") if name in ours}
    read = {(topic, name) for topic, cells in rows.items() for name in cells[3].split(", ") if name in ours}
    retries = {(spec.retry, spec.service) for spec in STAGES if spec.retry}
    letters = {(Topic.DEAD_LETTERS, spec.service) for spec in STAGES}
    assert written == {(topic, spec.service) for spec in STAGES for topic in spec.writes} | retries | letters
    assert read == {(topic, spec.service) for spec in STAGES for topic in spec.reads} | retries | extra


def test_page_lists_every_header() -> None:
    """Compares the table of headers with the published schema: names, values, and the required headers."""
    schema = schemas()[MEDIA_HEADERS]
    rows = {name: cells for first, cells in _rows("call.media").items() for name in _names(first)}
    assert rows.keys() == schema["properties"].keys()
    assert {name for name, cells in rows.items() if cells[1] == "never"} == set(schema["required"])
    for name in ("type", "codec"):
        assert _names(rows[name][0]) == schema["properties"][name]["enum"]
