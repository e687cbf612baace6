"""What is asked, and what an answer must be: pure."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from core.settings import SummaryField
from pipelines.providers.gemini.prompt import Draft, draft_type, schema_of, summary_of
from schemas.artifacts import Summary
from tests.fakes import gemini as fake
from tests.pipelines.made import said
from tests.pipelines.providers.gemini.asking import CALL, FIELDS


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
def test_an_answer_of_another_shape_is_none(change: dict[str, Any]) -> None:
    """A model that was talked into something else (more fields, other types, endless text, other values) has answered
    nothing: it must not reach the store."""
    good = {
        "abstract": "A call.", "topics": [], "key_points": [], "action_items": [], "sentiment": [],
        "outcome": "other", "fields": {"order_number": None, "reason": "outage"},
    }  # fmt: skip
    assert draft_type(FIELDS).model_validate_json(json.dumps(good))

    with pytest.raises(ValidationError):
        draft_type(FIELDS).model_validate_json(json.dumps(good | change))


def test_speakers_nobody_heard_and_control_characters_are_left_out() -> None:
    """A sentiment of a speaker who is not in the call is invented; control characters do terminals harm; more topics
    than were asked for are not worth asking again."""
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


def test_the_schema_is_of_the_supported_subset() -> None:
    """Custom fields may have names that are JSON Schema's own words; values and descriptions are kept."""
    fields = {"pattern": SummaryField(description="A pattern."), "title": SummaryField(description="T", values=("a",))}
    schema = schema_of(draft_type(fields))

    assert fake._unsupported(schema) == set()
    inner = schema["$defs"]["Fields"]
    assert set(inner["properties"]) == {"pattern", "title"}
    assert inner["properties"]["pattern"]["description"] == "A pattern."
    assert set(schema["required"]) == set(schema["properties"])


def test_an_older_summary_is_still_one() -> None:
    """Summaries that lie in object storage from before have none of the newer fields."""
    old = {"call_id": "CA1", "provider": "x", "model": "y", "abstract": "a", "key_points": [], "action_items": []}

    assert Summary.model_validate(old).outcome == ""
