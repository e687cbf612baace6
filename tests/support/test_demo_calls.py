"""The word error rate itself.

If it counts spelling as errors, or ignores real ones, the tests of the transcripts are worthless.
"""

import pytest

from tests.support.demo_calls import CALLS, demo_call, normalised, word_error_rate


@pytest.mark.parametrize(
    ("truth", "heard"),
    [
        ("It's four four seven, two nine one, zero.", "It's 447-291-0."),
        ("a credit of fifteen dollars", "a credit of $15"),
        ("the fourteenth of March at nine thirty", "The 14th of March at 9.30."),
        ("Friday the twenty second at four fifteen", "Friday the 22nd at 4:15"),
        ("the second of July, nineteen eighty eight", "the 2nd of July 1988"),
        ("Doctor Chen has the x-ray. All right?", "Dr. Chen has the X-ray, alright"),
        ("olivia dot parker at example dot com", "Olivia.parker@example.com."),
    ],
)
def test_the_same_words_written_differently(truth: str, heard: str) -> None:
    """Compares numerals, money, dates and addresses in words and digits: they are equal."""
    assert word_error_rate(truth, heard) == 0


def test_errors_are_counted() -> None:
    """Replaces, deletes and inserts one word each of six: three errors."""
    assert word_error_rate("please keep the thursday appointment too", "please keep a thursday too then") == 3 / 6


def test_other_numbers_are_errors() -> None:
    """Changes a digit: it is a wrong word."""
    assert word_error_rate("room forty five", "room 46") == 1 / 3
    assert normalised("forty five") == ["4", "5"]


@pytest.mark.parametrize("name", CALLS)
def test_the_demo_calls_are_mu_law_to_the_sample(name: str) -> None:
    """Decodes the compressed demo calls to 16-bit stereo: each sample is one of the 255 values of mu-law.

    Then encoding like a carrier loses nothing, and recordings can be compared sample for sample.
    """
    call = demo_call(name)
    values = {
        sign * (((2 * mantissa + 33) << exponent) - 33) * 4
        for sign in (1, -1)
        for exponent in range(8)
        for mantissa in range(16)
    }

    assert (call.rate_hz, call.samples.shape[1]) == (8000, 2)
    assert set(call.samples.flatten().tolist()) <= values
    assert {turn.channel for turn in call.turns} == {0, 1}
