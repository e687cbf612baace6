"""What a replay would cost, before it does."""

from dataclasses import replace
from decimal import Decimal

from core.settings import PricingSettings
from pipelines.replay.engine_cache import Engine, ReplayEngines
from pipelines.replay.estimate import estimate
from pipelines.replay.selection import ChosenPart, SelectionResult

WHISPER = Engine("whisper", "base", lambda _tenant: "stt")
SONIOX = Engine("soniox", "v5", lambda _tenant: "soniox")
EXTRACTIVE = Engine("extractive", "coverage", lambda _tenant: "summary")
GEMINI = Engine("gemini", "m", lambda _tenant: "gemini")
LOCAL = Engine("local", "minilm", lambda _tenant: "embedding")
PRICING = PricingSettings.model_validate(
    {
        "charge_replays": {"pays": True},
        "price_per_summary": "0.05",
        "gemini_rates": {"m": {"input": "1", "output": "2"}},
    }
)


THERE = ChosenPart(
    tenant="acme",
    call_id="CA1",
    part=1,
    duration_ms=3_600_000,
    words=10_000,
    transcripts=frozenset({"stt"}),
    summaries=frozenset({"summary"}),
    embeddings=frozenset({"embedding"}),
    summarized=True,
)  # an hour of a call, with all there can be of it
NOTHING: frozenset[str] = frozenset()


def money(chosen: list[ChosenPart], engines: ReplayEngines) -> tuple[Decimal, Decimal]:
    found = estimate(SelectionResult(tuple(chosen), 0), engines, PRICING)
    return Decimal(found.provider_cost), Decimal(found.price)


def test_what_is_there_costs_nothing() -> None:
    """The same settings again: nothing would be transcribed, summarized or embedded, and nothing paid."""
    found = estimate(SelectionResult((THERE,), 0), ReplayEngines(WHISPER, EXTRACTIVE, LOCAL), PRICING)
    assert (found.to_transcribe_ms, found.to_summarize, found.to_embed) == (0, 0, 0)
    assert (found.provider_cost, found.price) == ("0", "0")


def test_another_engine_costs_what_it_costs() -> None:
    """An hour by Soniox is 0.10 to us for each of two customers, and 0.60 to the one who pays for replays; a new
    transcript has no summary yet, so that is 0.05 more for the one who pays."""
    cost, price = money([THERE, replace(THERE, tenant="pays")], ReplayEngines(SONIOX, EXTRACTIVE, LOCAL))
    assert (cost, price) == (Decimal("0.2"), Decimal("0.65"))


def test_what_was_never_made_is_charged_as_usual() -> None:
    """A call whose transcription had failed: whoever replays it pays as if it had worked at once."""
    failed = replace(THERE, transcripts=NOTHING, summaries=NOTHING, embeddings=NOTHING, summarized=False)
    _, price = money([failed], ReplayEngines(WHISPER, EXTRACTIVE, LOCAL))
    assert price == Decimal("0.65")


def test_tokens_are_estimated() -> None:
    """A summary by Gemini of 10,000 words: 15,000 tokens in, 600 out. If it failed, a dry run would say that a month of
    summaries costs nothing."""
    cost, _ = money([THERE], ReplayEngines(summarize=GEMINI))
    assert cost == Decimal("0.0162")
