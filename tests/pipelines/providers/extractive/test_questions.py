"""Questions and their short answers."""

import pytest

from pipelines.providers.extractive.questions import has_value, is_question, topic_of, value_of, yes_or_no


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Could I have your account number and the name on the account, please?", "account number"),
        ("Can you confirm your date of birth for me?", "date of birth"),
        ("can you read me the asset tag", "asset tag"),
        ("What's your policy number?", "policy number"),
        ("Which phone number should he call?", "phone number"),
        ("And is the light on the front of your router green, orange, or red?", "light on the front of router"),
        ("When are you moving out?", "moving out"),
        ("May I have your name?", ""),
        ("Was anybody hurt?", ""),
    ],
)
def test_topics(question: str, topic: str) -> None:
    """What a question asks for stands before the answer; a name does not, since the summary begins with it."""
    assert is_question(question)
    assert topic_of(question) == topic


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("it's 447-291-0", "447-291-0"),
        ("0770 900 461", "0770 900 461"),
        ("the one on Castle Street", "the one on Castle Street"),
        ("the rear bumper is cracked", ""),
        ("I don't have a car", ""),
    ],
)
def test_values(answer: str, value: str) -> None:
    """An answer that is no sentence needs its question; a sentence stands alone."""
    assert value_of(answer) == value


def test_yes_and_no() -> None:
    """Only an answer that is nothing else is a yes or a no."""
    assert [yes_or_no(said) for said in ("Yes, it is.", "No.", "No, it's in my wallet.")] == ["yes", "no", ""]


def test_statements_are_not_questions() -> None:
    """A question is known without its mark, a statement is not one."""
    assert not is_question("The test shows a fault")
    assert has_value("four weeks")
    assert not has_value("some weeks")
