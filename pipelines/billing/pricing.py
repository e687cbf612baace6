"""What a piece of work costs and what is charged for it. Pure, in integers and Decimals: money is never a float."""

from collections.abc import Awaitable, Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Literal

from core.settings import PricingSettings, TokenRates
from pipelines.providers.base import Bill
from schemas.events import NO_TOKENS, Frozen, Money, RecordingReady, Tokens, TranscriptReady

UNITS_PER_MINUTE = 50
_MS_PER_MINUTE = 60_000
_MS_PER_HOUR = 3_600_000
_MILLION = Decimal(1_000_000)
_NEGLIGIBLE = Decimal("0.0002")  # of a difference between two costs: a few seconds of audio
_COST_STEP = Decimal("0.000001")  # a millionth: a second of audio costs about that much
# Wide enough that nothing is rounded before the one place where it is meant to be.
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)

# What Google bills for a million tokens of text (https://ai.google.dev/gemini-api/docs/pricing, read 2026-10-07), in
# USD. Thoughts are billed as output. Models whose price depends on the prompt's length or on the date are not here.
GEMINI_RATES: Mapping[str, TokenRates] = {
    "gemini-3.5-flash-lite": TokenRates(input=Decimal("0.30"), output=Decimal("2.50")),
    "gemini-3.5-flash": TokenRates(input=Decimal("1.50"), output=Decimal("9.00")),
    "gemini-embedding-2": TokenRates(input=Decimal("0.20")),
    "gemini-embedding-001": TokenRates(input=Decimal("0.15")),
}


class Charge(Frozen):
    """units: whole, 50 a minute. provider_cost: what the provider bills us; price: what the customer pays.
    provider_ms: the audio the provider counted. cost_source: whether it named the cost or our rate did. tokens: what a
    language model counted."""

    units: int
    provider_cost: Money
    price: Money
    currency: str
    provider_ms: int | None = None
    cost_source: Literal["rate", "provider"] = "rate"
    tokens: Tokens | None = None


def units_of(duration_ms: int) -> int:
    """Units of so much audio: int(minutes * 50), without the detour through a float."""
    return duration_ms * UNITS_PER_MINUTE // _MS_PER_MINUTE


def transcription_charge(duration_ms: int, provider: str, pricing: PricingSettings, bill: Bill | None = None) -> Charge:
    """The charge for transcribing so many ms of a call (its channels are not counted) with a provider.

    The cost is what the provider says; else the rate times the audio it counted, or else the call's length. It is
    rounded half up to a millionth; the price is exact. Raises KeyError for an unknown provider.
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
    """What a provider's own cost should have been by its rate, if it is far from that; else None."""
    if charge.cost_source == "rate" or charge.provider_ms is None:
        return None
    expected = _by_rate(charge.provider_ms, provider, pricing).quantize(_COST_STEP, context=_EXACT)
    return expected if abs(charge.provider_cost - expected) > max(expected / 4, _NEGLIGIBLE) else None


def _by_rate(audio_ms: int, provider: str, pricing: PricingSettings) -> Decimal:
    return _EXACT.divide(_EXACT.multiply(pricing.per_hour(provider), Decimal(audio_ms)), Decimal(_MS_PER_HOUR))


def replay_charge(charge: Charge, tenant: str, pricing: PricingSettings) -> Charge:
    """The charge for processing again, with other settings, what was charged before: the provider's cost stands, the
    customer pays only if the tenant's policy says so."""
    if pricing.charge_replays.get(tenant, pricing.charge_replays.get("*", False)):
        return charge
    return charge.model_copy(update={"units": 0, "price": Decimal(0)})


Charges = Callable[[RecordingReady | TranscriptReady, str, Charge | None], Awaitable[Charge | None]]
"""what was worked on, the line's key, the usual charge → the charge; None: nothing, and no line"""


def token_rates(model: str, pricing: PricingSettings) -> TokenRates:
    """What a model's tokens cost. Raises KeyError for one whose price nobody knows."""
    rates = pricing.gemini_rates.get(model)
    return GEMINI_RATES[model] if rates is None else rates


def token_charge(tokens: Tokens, model: str, price: Decimal, pricing: PricingSettings) -> Charge | None:
    """The charge for work that a language model did with so many tokens, or nobody outside did with none. None if it
    neither cost nor costs anything. Raises KeyError for a model whose price nobody knows."""
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
