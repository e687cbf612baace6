"""Event of the ledger, and the tokens that language models count."""

from typing import Annotated, Literal

from pydantic import WithJsonSchema

from schemas.events.base import Event, Frozen, Money
from schemas.usage_keys import UsageKind


class Tokens(Frozen):
    """Tokens that a language model counted.

    prompt: the input, including `cached` tokens from the provider's cache. candidates: the output. thoughts: reasoning
    before the output, charged like output.
    """

    prompt: int = 0
    candidates: int = 0
    thoughts: int = 0
    cached: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            prompt=self.prompt + other.prompt,
            candidates=self.candidates + other.candidates,
            thoughts=self.thoughts + other.thoughts,
            cached=self.cached + other.cached,
        )


NO_TOKENS = Tokens()


class UsageRecorded(Event):
    """Ledger line. key: identifies the charge; the same key is charged once, however often the event is delivered.

    units: 50 per minute, an integer. provider_cost: the provider's charge to us; price: the customer's price.
    provider_ms: audio that the provider counted, if it reports it (channels are sent one after the other, without long
    silences). cost_source: source of the cost, the provider or the rate in our settings.
    tokens: tokens that a language model counted, if one did the work.
    call_started_at_ms: decides the day of the line, so that a late redelivery cannot move it.
    """

    type: Literal["usage.recorded"] = "usage.recorded"
    key: str
    kind: Annotated[UsageKind, WithJsonSchema({"enum": list(UsageKind), "title": "Kind", "type": "string"})]
    units: int
    duration_ms: int
    provider: str
    model: str
    provider_cost: Money
    price: Money
    currency: str
    call_started_at_ms: int
    provider_ms: int | None = None
    cost_source: Literal["rate", "provider"] = "rate"
    tokens: Tokens | None = None
