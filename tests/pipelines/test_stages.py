"""Tests of the table of stages against the layers below, which cannot import it."""

import ast
from pathlib import Path

import pytest

from pipelines import stages
from pipelines.stages import ENGINE_STAGES, RECORDER, STAGES, SUMMARIZE, TRANSCRIBE, USAGE
from redpanda import group_offsets, topics
from schemas.json_schema import EVENTS
from schemas.replays import WORK
from schemas.topics import Topic


def test_every_group_and_retry_topic_belongs_to_one_stage() -> None:
    """Compares the names in the table. Two stages with one group would each receive only a part of their work."""
    groups = [spec.group for spec in STAGES]
    retries = [spec.retry for spec in STAGES if spec.retry]
    assert len(set(groups)) == len(groups)
    assert len(set(retries)) == len(retries)
    assert set(retries) == {topic for topic, types in EVENTS.items() if types == ("retry.scheduled",)}


def test_every_topic_with_results_has_a_reader() -> None:
    """Compares what the stages write with what they read, and both with redpanda/topics.yaml.

    A failure means that results are written which no stage processes, or that a topic is never created.
    """
    read = {topic for spec in STAGES for topic in spec.reads}
    written = {topic for spec in STAGES for topic in spec.writes}
    assert written <= read
    assert {topic.value for topic in read | written} <= topics.load().topics.keys()


def test_lower_layers_use_the_groups_of_the_table() -> None:
    """Compares the names of stages in schemas and redpanda with the table: a misspelt one would match no stage."""
    assert RECORDER.group == group_offsets.RECORDER
    assert {group for groups in WORK.values() for group in groups} == {spec.group for spec in ENGINE_STAGES.values()}


def test_a_stage_without_retries_or_with_several_sources_says_so() -> None:
    """Reads the single source and the retry topic of stages that have one, none or several."""
    assert (SUMMARIZE.source, SUMMARIZE.retry_topic) == (Topic.TRANSCRIPT_READY, Topic.SUMMARIZE_RETRY)
    assert ENGINE_STAGES["stt"] is TRANSCRIBE
    with pytest.raises(ValueError, match="usage has no retry topic"):
        _ = USAGE.retry_topic
    with pytest.raises(ValueError, match="too many values"):
        _ = stages.ANALYTICS.source


def test_the_table_imports_no_stage() -> None:
    """Reads the imports of the table: the command line loads it for its help, so it must stay light."""
    tree = ast.parse(Path(stages.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"collections.abc", "dataclasses", "typing", "schemas.topics"}
