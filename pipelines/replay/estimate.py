"""What a replay would cost. Pure."""

from decimal import Decimal

from core.settings import PricingSettings
from pipelines.billing.pricing import Charge, replay_charge, token_charge, transcription_charge
from pipelines.replay.engine_cache import Engine, ReplayEngines
from pipelines.replay.selection import ChosenPart, SelectionResult
from schemas.events import NO_TOKENS, Frozen, Tokens

# What is not known before: a summary's tokens. About what they have been for telephone calls in English.
_WORDS_PER_MINUTE = 150
_TOKENS_PER_WORD = 1.4
_PROMPT_TOKENS = 1_000
_ANSWER_TOKENS = 600
_BY_TOKENS = "gemini"


class Estimate(Frozen):
    """What a replay would do. calls, parts, duration_ms: that it is about; left_out: parts that were chosen and cannot
    be processed from that stage. to_transcribe_ms: audio that an engine would be given; to_summarize, to_embed: parts
    whose transcripts would be; the rest has its result. provider_cost, price: as decimal strings; exact for what is
    charged by time, estimated for what is charged by tokens."""

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
    """What it would cost. Raises KeyError for an engine whose prices nobody knows."""
    cost, price = Decimal(0), Decimal(0)
    transcribe_ms = summarize = embed = 0
    for part in chosen.parts:
        charges: list[tuple[Charge | None, bool]] = []  # and whether something of the kind was made before
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
    """About how many it takes; none of an engine that does not count them."""
    if engine.provider != _BY_TOKENS:
        return NO_TOKENS
    words = part.words or part.duration_ms * _WORDS_PER_MINUTE // 60_000
    return Tokens(prompt=round(words * _TOKENS_PER_WORD) + prompt, candidates=answer)
