"""Which sentences are action items."""

import pytest

from pipelines.providers.extractive.action_items import is_commitment


@pytest.mark.parametrize(
    "sentence",
    [
        "I'll also apply a credit of fifteen dollars to your next bill.",
        "We will send you a reminder by email the day before.",
        "I\N{RIGHT SINGLE QUOTATION MARK}ll call you back tomorrow morning.",
        "I'm going to refund the delivery charge today.",
        "I've booked Thursday for you.",
        "You'll receive a text message tonight.",
        "Please arrive ten minutes early to fill in the form.",
        "Could you send me the invoice again?",
        "Don't forget to bring your insurance card.",
        "You need to return the old router.",
    ],
)
def test_commitments_and_requests(sentence: str) -> None:
    """Somebody commits to something, or is asked to do it after the call: each must be found."""
    assert is_commitment(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "I will.",
        "Please bear with me for a moment.",
        "Could you please hold the line?",
        "Can you confirm your date of birth for me?",
        "I'm going to run a line test now.",
        "I'll just check that for you.",
        "Let me have a look at your account.",
        "You have a cleaning appointment on the fourteenth.",
        "My internet has been down since yesterday.",
        "Is there anything else I can do for you?",
        "Ich schicke Ihnen einen Techniker.",
        "",
    ],
)
def test_what_is_none(sentence: str) -> None:
    """Small talk, facts, questions and what is done during the call: a list full of these is one nobody reads."""
    assert not is_commitment(sentence)
