"""Settings of money: prices, costs and rates, as decimal strings."""

from decimal import Decimal

from pydantic import Field

from core.settings.base import Section


class TokenRates(Section):
    """The cost of a million tokens."""

    input: Decimal = Field(ge=0)
    """Cost of a million input tokens."""
    output: Decimal = Field(Decimal(0), ge=0)
    """Cost of a million output tokens."""
    cached: Decimal | None = Field(None, ge=0)
    """Cost of a million input tokens from the model's cache. Default: as other input tokens."""


class BundledRate(Section):
    """The price of a service that bundles recording and transcription."""

    per_minute: Decimal = Field(ge=0)
    """Price of a minute."""
    currency: str = "USD"
    """Currency of the price."""
    source: str
    """Source of the price and the day it was read."""


class PricingSettings(Section):
    """Prices and costs. Rates are per hour of audio where nothing else is stated."""

    currency: str = "USD"
    """Currency of every amount."""
    price_per_unit: Decimal = Decimal("0.0002")
    """Price of one unit for a customer. A minute has 50 units, so the default is 0.60 an hour."""
    # Nobody bills Whisper on your own machine. The default is the cost of a rented 2-core machine (0.05 an hour) while
    # it transcribes an hour of two-channel audio at the measured 0.06 x real time.
    whisper_per_hour: Decimal = Decimal("0.003")
    """Your cost of an hour of audio with whisper."""
    soniox_per_hour: Decimal = Decimal("0.10")
    """Your cost of an hour of audio with soniox."""
    openai_per_hour: Decimal = Decimal("0.36")
    """Your cost of an hour of audio with openai."""
    charge_replays: dict[str, bool] = {}
    """Charge a customer again when a call is replayed with other settings: JSON {tenant: true}; "*" is every other
    tenant. The provider's cost is always recorded."""
    price_per_summary: Decimal = Field(Decimal(0), ge=0)
    """Price of a call's summary for a customer."""
    price_per_embedding: Decimal = Field(Decimal(0), ge=0)
    """Price of a call's embeddings for a customer."""
    bundled: dict[str, BundledRate] = {
        "Carrier's own recording and transcription": BundledRate(
            per_minute=Decimal("0.0525"),
            source="Twilio: 0.0025 to record, 0.05 to transcribe, as reported by "
            "usesherlock.ai/blog/hidden-costs-twilio-voice-ai-stack, read on 2026-11-24",
        )
    }
    """Prices of other services, which the usage page compares with yours: JSON {name: {"per_minute", "currency",
    "source"}}."""
    gemini_rates: dict[str, TokenRates] = {}
    """Cost of a million tokens by model: JSON {model: {"input", "output", "cached"}}. It takes precedence over the
    built-in rates."""

    def per_hour(self, provider: str) -> Decimal:
        """Returns your cost of an hour of audio with a speech-to-text provider: the field `<provider>_per_hour`.

        Raises:
            KeyError: There is no such field.
        """
        name = f"{provider}_per_hour"
        if name not in type(self).model_fields:
            raise KeyError(provider)
        rate: Decimal = getattr(self, name)
        return rate
