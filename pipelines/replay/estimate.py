"""Estimates the work and the cost of a replay. Pure."""

from decimal import Decimal

from core.settings import PricingSettings
from pipelines.billing.pricing import Charge, replay_charge, token_charge, transcription_charge
from pipelines.replay.engine_cache import Engine, ReplayEngines
from pipelines.replay.selection import ChosenPart, SelectionResult
from schemas.events import NO_TOKENS, Frozen, Tokens

# A summary's tokens are not known in advance. These are averages for phone calls in English.
_WORDS_PER_MINUTE = 150
_TOKENS_PER_WORD = 1.4
_PROMPT_TOKENS = 1_000
_ANSWER_TOKENS = 600
_BY_TOKENS = "gemini"


class Estimate(Frozen):
    """Estimated work and cost of a replay.

    calls, parts, duration_ms: calls, parts and audio of the replay.
    left_out: selected parts that cannot be processed from that stage.
    to_transcribe_ms: audio for an engine; to_summarize, to_embed: parts for an engine. The other parts have results.
    provider_cost, price: decimal strings; exact for charges by time, estimated for charges by tokens.
    """

    calls: int
    parts: int
    left_out: int
    duration_ms: int
    to_transcribe_ms: int
    to_summarize: int
    to_embed: int
    provider_cost: str
    price: str
    currency: str


def estimate(chosen: SelectionResult, engines: ReplayEngines, pricing: PricingSettings) -> Estimate:
    """Returns the estimate. Raises KeyError for an engine with unknown prices."""
    cost, price = Decimal(0), Decimal(0)
    transcribe_ms = summarize = embed = 0
    for part in chosen.parts:
        charges: list[tuple[Charge | None, bool]] = []  # True: the part has had a result of this kind before
        new = engines.transcribe is not None and engines.transcribe.hash_for(part.tenant) not in part.transcripts
        if engines.transcribe is not None and new:
            transcribe_ms += part.duration_ms
            usual = transcription_charge(part.duration_ms, engines.transcribe.provider, pricing)
            charges.append((usual, bool(part.transcripts)))
        if engines.summarize is not None and (new or engines.summarize.hash_for(part.tenant) not in part.summaries):
            summarize += 1
            tokens = _tokens(engines.summarize, part, _PROMPT_TOKENS, _ANSWER_TOKENS)
            usual_or_none = token_charge(tokens, engines.summarize.model, pricing.price_per_summary, pricing)
            charges.append((usual_or_none, part.summarized))
        if engines.embed is not None and (new or engines.embed.hash_for(part.tenant) not in part.embeddings):
            embed += 1
            tokens = _tokens(engines.embed, part, 0, 0)
            usual_or_none = token_charge(tokens, engines.embed.model, pricing.price_per_embedding, pricing)
            charges.append((usual_or_none, bool(part.embeddings)))
        for usual_or_none, again in charges:
            if usual_or_none is not None:
                charge = replay_charge(usual_or_none, part.tenant, pricing) if again else usual_or_none
                cost, price = cost + charge.provider_cost, price + charge.price
    return Estimate(
        calls=chosen.calls,
        parts=len(chosen.parts),
        left_out=chosen.left_out,
        duration_ms=chosen.duration_ms,
        to_transcribe_ms=transcribe_ms,
        to_summarize=summarize,
        to_embed=embed,
        provider_cost=f"{cost:f}",
        price=f"{price:f}",
        currency=pricing.currency,
    )


def _tokens(engine: Engine, part: ChosenPart, prompt: int, answer: int) -> Tokens:
    """Returns the estimated tokens; none for an engine that does not charge by tokens."""
    if engine.provider != _BY_TOKENS:
        return NO_TOKENS
    words = part.words or part.duration_ms * _WORDS_PER_MINUTE // 60_000
    return Tokens(prompt=round(words * _TOKENS_PER_WORD) + prompt, candidates=answer)
