"""Removing what carries nothing."""

import pytest

from pipelines.providers.extractive.english import is_english, says_something, without_courtesies, without_fillers


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Um, I get, uh, dizzy.", "I get, dizzy."),
        ("It is, it is bad.", "It is bad."),
        ("It's four four seven, two nine one, zero.", "It's 4472910."),
        ("it's c v 2 2 4 8 thanks", "it's CV2248 thanks"),
        ("It's the 9th of November, 1961. On the 14th of March, at 9.", "It's 9 November 1961. On 14 March, at 9."),
        ("on um it works", "on\u2026 it works"),
        ("Our train, I mean our flight, lands at 11.", "our flight lands at 11."),
        ("The one two punch on the fifth of May", "The one two punch on the fifth of May"),
    ],
)
def test_fillers(text: str, left: str) -> None:
    """Fillers and stuttering go, spelled numbers become numbers, a speaker's correction replaces what was wrong."""
    assert without_fillers(text) == left


@pytest.mark.parametrize(
    ("clause", "left"),
    [
        ("Okay, so my parcel is late", "my parcel is late"),
        ("Good morning, Acme Telecom", "Acme Telecom"),
        ("Thank you, Daniel.", ""),
        ("It takes about 10 seconds, so please bear with me.", ""),
        ("Let me just check that for you", ""),
        ("How can I help you today?", ""),
        ("Is there anything else I can do for you?", ""),
        ("That's very helpful.", ""),
        ("I'm sorry to hear that.", ""),
        ("You're welcome, Daniel", ""),
        ("Have a lovely day", ""),
        ("I've booked Thursday for you, Daniel", "I've booked Thursday"),
        ("It's Daniel Smith and the card ends in 7731", "the card ends in 7731"),
        ("no light on the router", "no light on the router"),
        ("The test shows a fault at the street cabinet", "The test shows a fault at the street cabinet"),
    ],
)
def test_courtesies(clause: str, left: str) -> None:
    """Openings, hold phrases, thanks and names that only address somebody go; a statement stays as it is."""
    assert without_courtesies(clause, ["Daniel Smith", "Daniel"]) == left


@pytest.mark.parametrize(
    ("text", "otherwise", "english"),
    [
        ("I have an appointment on the 14th and I need to move it", False, True),
        ("Mein Internet geht seit gestern nicht und ich arbeite von zu Hause", True, False),
        ("Mon colis devait arriver lundi et je ne l'ai toujours pas", True, False),
        ("El paquete tenía que llegar el lunes y no ha llegado", True, False),
        ("Yes", True, True),
        ("Ja", False, False),
    ],
)
def test_the_language(text: str, otherwise: bool, english: bool) -> None:
    """English is known by its small words; of a few words the given answer stands."""
    assert is_english(text.split(), otherwise) is english


def test_content() -> None:
    """ "I will do that now" has no content of its own, "the router" has."""
    assert not says_something("I will do that now")
    assert says_something("the router")
