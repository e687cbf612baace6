"""Costs and prices of jobs. Pure, in integers and Decimals: money is never a float.

Cost: the amount the provider charges us. Price: the amount the customer pays. Charge: both, for one job.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Literal

from core.settings import PricingSettings, TokenRates
from pipelines.providers.base import Bill
from schemas.events import NO_TOKENS, Frozen, Money, Tokens

UNITS_PER_MINUTE = 50
_MS_PER_MINUTE = 60_000
_MS_PER_HOUR = 3_600_000
_MILLION = Decimal(1_000_000)
_NEGLIGIBLE = Decimal("0.0002")  # a difference between two costs: a few seconds of audio
_COST_STEP = Decimal("0.000001")  # a millionth: a second of audio costs about that much
# Wide enough that only the intended place rounds.
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)

# Google's prices for a million tokens of text in USD (https://ai.google.dev/gemini-api/docs/pricing, read 2026-10-07).
# Thoughts are charged as output. Models whose price depends on the prompt's length or on the date are not listed.
GEMINI_RATES: Mapping[str, TokenRates] = {
    "gemini-3.5-flash-lite": TokenRates(input=Decimal("0.30"), output=Decimal("2.50")),
    "gemini-3.5-flash": TokenRates(input=Decimal("1.50"), output=Decimal("9.00")),
    "gemini-embedding-2": TokenRates(input=Decimal("0.20")),
    "gemini-embedding-001": TokenRates(input=Decimal("0.15")),
}


class Charge(Frozen):
    """Cost and price of one job.

    units: whole, 50 a minute. provider_cost: the amount the provider charges us. price: the amount the customer pays.
    provider_ms: the audio that the provider counted. cost_source: "provider" if the provider named the cost, "rate" if
    it follows from the rate in the settings. tokens: the tokens that a language model counted.
    """

    units: int
    provider_cost: Money
    price: Money
    currency: str
    provider_ms: int | None = None
    cost_source: Literal["rate", "provider"] = "rate"
    tokens: Tokens | None = None


def units_of(duration_ms: int) -> int:
    """Returns the units of that much audio: int(minutes * 50), computed in integers."""
    return duration_ms * UNITS_PER_MINUTE // _MS_PER_MINUTE


def transcription_charge(duration_ms: int, provider: str, pricing: PricingSettings, bill: Bill | None = None) -> Charge:
    """Returns the charge for transcribing `duration_ms` of a call with a provider, whatever its number of channels.

    The cost is the one on the provider's bill; else the rate times the audio on the bill; else the rate times the
    call's duration. It is rounded half up to a millionth; the price is exact. Raises KeyError for an unknown provider.
    """
    audio_ms = duration_ms if bill is None or bill.audio_ms is None else bill.audio_ms
    cost = _by_rate(audio_ms, provider, pricing)
    named = bill.cost if bill and bill.currency == pricing.currency else None
    cost = cost if named is None else named
    units = units_of(duration_ms)
    return Charge(
        units=units,
        provider_cost=cost.quantize(_COST_STEP, context=_EXACT),
        price=_EXACT.multiply(pricing.price_per_unit, Decimal(units)),
        currency=pricing.currency,
        provider_ms=bill.audio_ms if bill else None,
        cost_source="rate" if named is None else "provider",
    )


def cost_discrepancy(charge: Charge, provider: str, pricing: PricingSettings) -> Decimal | None:
    """Returns the cost by the provider's rate if the cost on its bill is far from that; else None."""
    if charge.cost_source == "rate" or charge.provider_ms is None:
        return None
    expected = _by_rate(charge.provider_ms, provider, pricing).quantize(_COST_STEP, context=_EXACT)
    return expected if abs(charge.provider_cost - expected) > max(expected / 4, _NEGLIGIBLE) else None


def _by_rate(audio_ms: int, provider: str, pricing: PricingSettings) -> Decimal:
    return _EXACT.divide(_EXACT.multiply(pricing.per_hour(provider), Decimal(audio_ms)), Decimal(_MS_PER_HOUR))


def replay_charge(charge: Charge, tenant: str, pricing: PricingSettings) -> Charge:
    """Returns the charge for processing a part again that was charged before.

    The provider's cost stands; the customer pays only if the tenant's policy says so.
    """
    if pricing.charge_replays.get(tenant, pricing.charge_replays.get("*", False)):
        return charge
    return charge.model_copy(update={"units": 0, "price": Decimal(0)})


def token_rates(model: str, pricing: PricingSettings) -> TokenRates:
    """Returns the prices of a model's tokens. Raises KeyError if they are unknown."""
    rates = pricing.gemini_rates.get(model)
    return GEMINI_RATES[model] if rates is None else rates


def token_charge(tokens: Tokens, model: str, price: Decimal, pricing: PricingSettings) -> Charge | None:
    """Returns the charge for work that used these tokens (none: work without a paid provider).

    None if it costs neither us nor the customer anything. Raises KeyError for a model whose prices are unknown.
    """
    cost = Decimal(0)
    if tokens != NO_TOKENS:
        rates = token_rates(model, pricing)
        for count, rate in (
            (tokens.prompt - tokens.cached, rates.input),
            (tokens.cached, rates.input if rates.cached is None else rates.cached),
            (tokens.candidates + tokens.thoughts, rates.output),
        ):
            cost = _EXACT.add(cost, _EXACT.multiply(rate, Decimal(count)))
    elif not price:
        return None
    return Charge(
        units=0,  # units are minutes, and those are on the transcription's line
        provider_cost=_EXACT.divide(cost, _MILLION).quantize(_COST_STEP, context=_EXACT),
        price=price,
        currency=pricing.currency,
        tokens=tokens if tokens != NO_TOKENS else None,
    )
