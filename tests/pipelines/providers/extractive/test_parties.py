"""Names and firms that speakers give."""

import pytest

from pipelines.providers.extractive.parties import Parties, parties_of


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("This is Grace speaking.", "Grace"),
        ("Good morning, Martin speaking.", "Martin"),
        ("My name is Olivia Parker. I have an appointment.", "Olivia Parker"),
        ("Mrs. Adeyemi speaking, good morning.", "Adeyemi"),
        ("yeah hi this is george patterson from accounting", "George Patterson"),
        ("The name is Ferreira, Ana Ferreira, and the reference is 12.", "Ana Ferreira"),
        ("It's for me, Hannah Okafor.", "Hannah Okafor"),
        ("You're speaking with Tom.", "Tom"),
        ("This is a problem.", ""),
        ("this is really urgent", ""),
        ("I'm calling about my bill.", ""),
        ("Hi Priya, I have a question.", ""),
    ],
)
def test_names(said: str, name: str) -> None:
    """Only a name that a speaker gives himself counts, with capitals or without. A wrong name stands in every line."""
    assert parties_of([("inbound", said)]).names.get("inbound", "") == name


def test_a_name_as_an_answer() -> None:
    """Asked for the name, people say just that."""
    for question in ("Could I have your name and your card number, please?", "And what name is it under?"):
        turns = [("outbound", question), ("inbound", "Marcus Bell, 7731.")]

        assert parties_of(turns).names == {"inbound": "Marcus Bell"}


@pytest.mark.parametrize(
    ("said", "firm"),
    [
        ("Thank you for calling Northwind Broadband, this is Grace speaking.", "Northwind Broadband"),
        ("Good morning, Riverside Dental Clinic. Martin speaking.", "Riverside Dental Clinic"),
        ("thanks for calling corvid it help desk this is lena speaking", "Corvid It Help Desk"),
        ("I'm calling about my bill.", ""),
        ("Good morning. My name is Olivia Parker.", ""),
    ],
)
def test_firms(said: str, firm: str) -> None:
    """The firm of the greeting, and none where nobody greets with one."""
    assert parties_of([("outbound", said)]).firm == firm


def test_roles() -> None:
    """Without a name a track has its role, and a voice that was told apart keeps its label."""
    parties = Parties()

    assert [parties.short(one) for one in ("inbound", "outbound", "speaker 1")] == [
        "the customer",
        "the agent",
        "speaker 1",
    ]
