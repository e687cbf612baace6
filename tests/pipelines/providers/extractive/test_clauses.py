"""Splitting into clauses."""

import pytest

from pipelines.providers.extractive.clauses import clauses_of


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("It broke. I called you.", ["It broke.", "I called you."]),
        (
            "I can put you on the list, and I'll also apply a credit to your next bill.",
            ["I can put you on the list", "I'll also apply a credit to your next bill."],
        ),
        (
            "I have an appointment on Monday, and I need to move it.",
            ["I have an appointment on Monday, and I need to move it."],
        ),
        (
            "okay this is lena speaking can you read me the asset tag",
            ["okay", "this is lena speaking", "can you read me the asset tag"],
        ),
        ("the update removed the certificate the vpn needs", ["the update removed the certificate the vpn needs"]),
    ],
)
def test_examples(text: str, clauses: list[str]) -> None:
    """A clause stands alone: one that points back ("move it") stays with what it points to, and a run of words without
    punctuation is cut where a sentence begins. A wrong cut gives summaries of half sentences."""
    assert clauses_of(text) == clauses
