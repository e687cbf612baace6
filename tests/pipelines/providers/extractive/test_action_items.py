"""Which sentences are action items."""

import pytest

from pipelines.providers.extractive.action_items import OTHER, SPEAKER, Commitment, commitment_in


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
    assert commitment_in(sentence) is not None


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
        "All right, I'll inform his teacher, Mr. Okonkwo.",
        "I'll let the driver know.",
        "You have a cleaning appointment on the fourteenth.",
        "My internet has been down since yesterday.",
        "Is there anything else I can do for you?",
        "Ich schicke Ihnen einen Techniker.",
        "",
    ],
)
def test_what_is_none(sentence: str) -> None:
    """Small talk, facts, questions and what is done during the call, and a message without its content. Nobody reads a
    list full of these."""
    assert commitment_in(sentence) is None


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("I'll call you back tomorrow morning.", Commitment(SPEAKER, "call you back tomorrow morning")),
        ("I can book a table for Friday at 8.", Commitment(SPEAKER, "book a table for Friday at 8", offer=True)),
        ("Please arrive ten minutes early.", Commitment(OTHER, "arrive ten minutes early")),
        ("You need to return the old router.", Commitment(OTHER, "return the old router")),
        ("The driver will call you half an hour before.", Commitment("the driver", "call you half an hour before")),
        (
            "You'll receive a text message tonight.",
            Commitment(SPEAKER, "You'll receive a text message tonight", whole=True),
        ),
        ("I'll write that down and inform Ms. Li about it.", Commitment(SPEAKER, "inform Ms. Li about it")),
        (
            "Because of the delay we'll refund the express fee.",
            Commitment(SPEAKER, "refund the express fee Because of the delay"),
        ),
    ],
)
def test_who_does_what(sentence: str, expected: Commitment) -> None:
    """The owner and the task, each in the words that were said. A wrong owner sends the task to the wrong person."""
    assert commitment_in(sentence) == expected


def test_she_is_whom_the_speaker_named_before() -> None:
    """ "She can call you" belongs to the nurse of the sentence before, and to nobody without one."""
    said = "She can call you back this afternoon between 2 and 3."

    assert commitment_in(said, "I'd like a nurse to look at that.") == Commitment(
        "the nurse", "call you back this afternoon between 2 and 3"
    )
    assert commitment_in(said) is None
