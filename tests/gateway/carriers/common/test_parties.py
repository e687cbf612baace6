"""Caller and callee: whichever source names them first."""

import pytest

from gateway.carriers.base import FROM_PARAMETER, TO_PARAMETER, StreamStart
from gateway.carriers.common.parties import parties, with_parties
from schemas.media import Codec


def start(from_number: str = "", to_number: str = "", /, **custom: str) -> StreamStart:
    """A stream's start with these parameters."""
    return StreamStart("CA1", "MZ1", "", (), Codec.PCMU, 8000, "little", from_number, to_number, custom)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"From": "+15550100", "To": "+15550199"}, ("+15550100", "+15550199")),  # Twilio, SignalWire, Plivo, TeXML
        ({"from": "15550100", "to": "15550199"}, ("15550100", "15550199")),  # Vonage, jambonz
        ({"CallFrom": "0915550100", "CallTo": "0915550199"}, ("0915550100", "0915550199")),  # Exotel
        ({"Caller": "client:anna", "Called": "+15550199"}, ("client:anna", "+15550199")),
        ({"From": "", "Caller": "+15550100"}, ("+15550100", "")),
        ({"CallSid": "CA1"}, ("", "")),
        ({"From": "9" * 1000}, ("9" * 256, "")),
    ],
)
def test_webhooks_name_the_parties(fields: dict[str, str], found: tuple[str, str]) -> None:
    """Reads the parties from the fields of each carrier."""
    assert parties(fields) == found


@pytest.mark.parametrize(
    ("given", "from_number", "to_number"),
    [
        (start("+1", "+2", From="+3333"), "+1", "+2"),
        (start("", "+2", From="+3333", To="+4444"), "+3333", "+2"),
        (start(From="+1 (555) 010-0123", to_number="sip:agent@host"), "+1 (555) 010-0123", "sip:agent@host"),
        (start(from_number="", to="sip:agent@host"), "", "sip:agent@host"),
        (start(**{"from": "newsletter", "to": "support"}), "", ""),
        (start(**{FROM_PARAMETER: "+15550100", TO_PARAMETER: "client:anna"}), "+15550100", "client:anna"),
        (start(), "", ""),
    ],
)
def test_parameters_name_the_parties(given: StreamStart, from_number: str, to_number: str) -> None:
    """Reads the parties from a stream's parameters, where the start does not name them. A parameter `from` that no call
    could come from is the user's own affair."""
    found = with_parties(given)
    assert (found.from_number, found.to_number) == (from_number, to_number)


def test_our_own_parameters_are_not_shown() -> None:
    """Names the parties in our own parameters and in the user's: only the user's stay among the metadata."""
    found = with_parties(start(**{FROM_PARAMETER: "+15550100", "From": "+15550100", "agent": "7"}))
    assert found.custom == {"From": "+15550100", "agent": "7"}
