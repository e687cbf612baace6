"""The prompt and the schema of the response: pure."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from core.settings import SummaryField
from pipelines.providers.gemini.prompt import Draft, draft_type, schema_of, summary_of
from schemas.artifacts import Summary
from tests.fakes import gemini as fake
from tests.support.gemini_client import CALL, FIELDS
from tests.support.pipeline_events import said


@pytest.mark.parametrize(
    "change",
    [
        {"tools": ["call_home"]},
        {"outcome": "hacked"},
        {"abstract": "x" * 6_000},
        {"abstract": ""},
        {"action_items": ["a string"]},
        {"sentiment": None},
        {"topics": ["x"] * 201},
        {"fields": {"order_number": "1", "reason": "revenge"}},
        {"fields": {"order_number": "1", "reason": None, "admin": "yes"}},
        {"fields": None},
    ],
)
def test_a_response_of_another_shape_is_invalid(change: dict[str, Any]) -> None:
    """Parses responses with other fields, types or values, or endless text. All must be invalid and never stored."""
    good = {
        "abstract": "A call.", "topics": [], "key_points": [], "action_items": [], "sentiment": [],
        "outcome": "other", "fields": {"order_number": None, "reason": "outage"},
    }  # fmt: skip
    assert draft_type(FIELDS).model_validate_json(json.dumps(good))

    with pytest.raises(ValidationError):
        draft_type(FIELDS).model_validate_json(json.dumps(good | change))


def test_unknown_speakers_and_control_characters_are_dropped() -> None:
    """Converts a draft with an invented speaker, control characters and too many topics.

    All of them must be dropped: another request would be charged.
    """
    draft = Draft.model_validate(
        {
            "abstract": "Fine.\x1b[31m \x00", "topics": ["x"] * 11, "key_points": [" a\x07b "], "action_items": [],
            "sentiment": [
                {"speaker": "inbound", "sentiment": "negative"}, {"speaker": "the boss", "sentiment": "positive"},
                {"speaker": "inbound", "sentiment": "positive"},
            ],
            "outcome": "other",
        }
    )  # fmt: skip
    summary = summary_of(draft, said("CA1", *CALL), "gemini", "m")

    assert (summary.abstract, summary.key_points, summary.fields) == ("Fine.[31m", ["ab"], {})
    assert len(summary.topics) == 10
    assert [(one.speaker, one.sentiment) for one in summary.sentiment] == [("inbound", "negative")]


def test_the_schema_uses_the_supported_subset() -> None:
    """Builds a schema with custom fields named like keywords of JSON Schema.

    Their values and descriptions must stay.
    """
    fields = {"pattern": SummaryField(description="A pattern."), "title": SummaryField(description="T", values=("a",))}
    schema = schema_of(draft_type(fields))

    assert fake._unsupported(schema) == set()
    inner = schema["$defs"]["Fields"]
    assert set(inner["properties"]) == {"pattern", "title"}
    assert inner["properties"]["pattern"]["description"] == "A pattern."
    assert set(schema["required"]) == set(schema["properties"])


def test_an_older_summary_is_still_valid() -> None:
    """Parses a summary without the newer fields."""
    old = {"call_id": "CA1", "provider": "x", "model": "y", "abstract": "a", "key_points": [], "action_items": []}

    assert Summary.model_validate(old).outcome == ""
