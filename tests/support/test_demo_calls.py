"""The measure itself: a word error rate that counts spelling as errors, or forgives real ones, measures nothing."""

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
    """Numerals, money, dates and addresses are spellings, not errors."""
    assert word_error_rate(truth, heard) == 0


def test_errors_are_counted() -> None:
    """One word replaced, one left out, one put in, of six."""
    assert word_error_rate("please keep the thursday appointment too", "please keep a thursday too then") == 3 / 6


def test_other_numbers_are_errors() -> None:
    """A wrong digit is a wrong word."""
    assert word_error_rate("room forty five", "room 46") == 1 / 3
    assert normalised("forty five") == ["4", "5"]


@pytest.mark.parametrize("name", CALLS)
def test_the_demo_calls_are_mu_law_to_the_sample(name: str) -> None:
    """The compressed copies decode to 16-bit stereo of which every sample is one of mu-law's 255 values: encoding
    them as a carrier does loses nothing, so recordings can be compared to the sample."""
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
