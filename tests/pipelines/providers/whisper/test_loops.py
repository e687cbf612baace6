"""Text that repeats itself, and speech that only seems to."""

import pytest

from pipelines.providers.whisper.loops import is_loop
from tests.support.demo_calls import CALLS, demo_call


@pytest.mark.parametrize(
    "text",
    [
        "I'm going to the end of the day. " * 4,
        "So, " * 12,
        "thank you very much thank you very much thank you very much thank you very much",
        "Good morning, I have a question. " + "and then and then and then and then and then and then and then",
        "ありがとう" * 12,
        "one two three four five six seven one two three four five six seven one two three four five six seven",
    ],
)
def test_a_loop_is_found(text: str) -> None:
    """A phrase stands in a row more often than anybody says it. If one is missed, it fills transcript and search."""
    assert is_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no, no.",
        "Yes. Yes. Yes. Yes. Okay.",
        "zero zero zero zero five five five",
        "It's very, very, very good, very good indeed.",
        "bye bye bye bye",
        "今日はいい天気ですね。",
    ],
)
def test_people_repeat_themselves(text: str) -> None:
    """Speakers say a word several times. If that counts as a loop, real words are left out."""
    assert not is_loop(text)


def test_what_is_said_in_calls_is_no_loop() -> None:
    """Every turn of the demo calls, and each channel's turns together."""
    for name in CALLS:
        call = demo_call(name)
        assert not any(is_loop(turn.text) for turn in call.turns)
        assert not any(is_loop(call.said(channel)) for channel in (0, 1))
