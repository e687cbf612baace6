"""What is charged, in exact arithmetic."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import PricingSettings
from pipelines.billing.pricing import transcription_charge, units_of

durations = st.integers(0, 48 * 3_600_000)


@pytest.mark.parametrize(
    ("duration_ms", "units"),
    [(0, 0), (1_199, 0), (1_200, 1), (59_999, 49), (60_000, 50), (98_366, 81), (88_263, 73), (3_600_000, 3_000)],
)
def test_units(duration_ms: int, units: int) -> None:
    """50 a minute, begun units not charged. The edges are where rounding would charge one too many."""
    assert units_of(duration_ms) == units


@given(durations)
def test_units_are_fifty_a_minute_rounded_down(duration_ms: int) -> None:
    """Against exact fractions: int(minutes * 50), for every length. A float would be off by one for some."""
    assert units_of(duration_ms) == int(Fraction(duration_ms, 60_000) * 50)


def test_a_charge() -> None:
    """Two minutes with the default prices: 100 units at 0.0002, and Whisper's share of an hour's cost."""
    charge = transcription_charge(120_000, "whisper", PricingSettings())

    assert (charge.units, charge.price, charge.currency) == (100, Decimal("0.0200"), "USD")
    assert charge.provider_cost == Decimal("0.000100")  # 0.003 / 30


def test_half_a_millionth_is_rounded_up() -> None:
    """Cost of 1.5 millionths exactly: half up, as a bill does it, not to the even neighbour as Decimal would."""
    pricing = PricingSettings(whisper_per_hour=Decimal("0.0000025"))

    assert transcription_charge(3_600_000, "whisper", pricing).provider_cost == Decimal("0.000003")


@given(durations, st.decimals(0, 10, places=6), st.decimals(0, 1, places=8))
def test_money_is_exact(duration_ms: int, per_hour: Decimal, per_unit: Decimal) -> None:
    """Against exact fractions: the price is units times price, to the last digit; the cost is at most half a
    millionth off."""
    pricing = PricingSettings(soniox_per_hour=per_hour, price_per_unit=per_unit)
    charge = transcription_charge(duration_ms, "soniox", pricing)

    assert Fraction(charge.price) == charge.units * Fraction(per_unit)
    exact = Fraction(per_hour) * duration_ms / 3_600_000
    assert abs(Fraction(charge.provider_cost) - exact) <= Fraction(1, 2_000_000)
    assert charge.provider_cost.as_tuple().exponent == -6


def test_an_unknown_provider_is_no_free_call() -> None:
    """A provider without a rate must fail loudly: a cost of 0 would be a false margin on every bill."""
    with pytest.raises(KeyError):
        transcription_charge(60_000, "unheard-of", PricingSettings())
