"""The third person."""

import pytest

from pipelines.providers.extractive.retelling import retold


@pytest.mark.parametrize(
    ("clause", "told"),
    [
        ("I've changed my address", "Ana has changed their address"),
        ("my internet has been down", "Ana's internet has been down"),
        ("I have an appointment and I need to move it", "Ana has an appointment and needs to move it"),
        ("I finish work at 3", "Ana finishes work at 3"),
        ("I finished work at 3", "Ana finished work at 3"),
        ("I'm still waiting", "Ana is still waiting"),
        ("we don't have it", "Ana doesn't have it"),
        ("I was there, I was early", "Ana was there, they were early"),
        ("you can collect it", "Tom can collect it"),
        ("she will call you back", "she will call Tom back"),
        ("send you an email on the day you move", "send Tom an email on the day they move"),
        ("the money is for you", "the money is for Tom"),
        ("when are you moving out", "when is Tom moving out"),
        ("my son and I went", "Ana's son and they went"),
        ("the parcel is at the depot", "the parcel is at the depot"),
    ],
)
def test_examples(clause: str, told: str) -> None:
    """Ana speaks to Tom. Each is named once, verbs get their ending, and what has no pronoun stays as it is."""
    assert retold(clause, "Ana", "Tom") == told


def test_a_line_that_names_the_speaker() -> None:
    """In "Ana: send you my key" the reader knows who "my" is."""
    assert retold("send you my key", "Ana", "Tom", named="Ana") == "send Tom their key"
