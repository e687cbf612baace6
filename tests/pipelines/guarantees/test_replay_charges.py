"""Replays: of a part's lines one has the full price, whoever comes first and whatever is killed."""

from collections.abc import Iterable
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.settings import (
    ClickHouseSettings,
    EmbeddingSettings,
    GeminiSettings,
    OpenAiSettings,
    PricingSettings,
    QdrantSettings,
    S3Settings,
    Settings,
    SttSettings,
    SummarySettings,
    TokenRates,
)
from schemas.events import RecordingReady, ReplayStage, TranscriptReady, UsageRecorded
from sinks.clickhouse.call_queries import CallStore
from sinks.object_store import ObjectStore
from tests.fakes import gemini as gemini_rules
from tests.fakes import openai as openai_rules
from tests.fakes.gemini import FakeGemini
from tests.fakes.openai import FakeOpenAi
from tests.pipelines.guarantees.stages import (
    DEARER,
    USUAL,
    extractive_summarizer,
    gemini_embedder,
    gemini_summarizer,
    kept_of,
    openai_transcriber,
    replay,
    shape,
)
from tests.pipelines.guarantees.workers import Delivered, Fault, Steps, deliver
from tests.support.ids import new_call
from tests.support.pipeline_events import recording, said, transcribed
from tests.support.transcription_jobs import job_of

FEWEST_STEPS = 5


@pytest.fixture
def settings(
    clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings, openai: FakeOpenAi, gemini: FakeGemini
) -> Settings:
    """The shared stores, and engines with a configuration that live stages do not have. Nobody's policy charges
    replays."""
    CallStore(clickhouse).migrate()
    return Settings(
        clickhouse=clickhouse,
        s3=s3,
        qdrant=qdrant,
        pricing=USUAL,
        stt=SttSettings(provider="openai"),
        openai=OpenAiSettings(base_url=openai.url, api_key=SecretStr(openai_rules.KEY), prompt="of the replay"),
        summary=SummarySettings(provider="gemini"),
        embedding=EmbeddingSettings(provider="gemini"),
        gemini=GeminiSettings(base_url=gemini.url, api_key=SecretStr(gemini_rules.KEY), embedding_dimension=256),
    )


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    """A minute with one sound."""
    return job_of(tmp_path / "a.wav", [(1, 2)], [], seconds=60).audio.read_bytes()


def new_recording(objects: ObjectStore, wav: bytes) -> RecordingReady:
    """A recording of a call of its own."""
    return recording(objects, new_call(), wav, 60_000)


def prices(deliveries: Iterable[Delivered]) -> list[Decimal]:
    """Prices of the ledger lines, as the ledger has them: one a key. Fails if a line changes."""
    lines: dict[str, UsageRecorded] = {}
    for delivered in deliveries:
        for line in delivered.lines:
            assert lines.setdefault(line.key, line).price == line.price
            assert line.provider_cost > 0
    return sorted(line.price for line in lines.values())


@pytest.mark.parametrize("killed", ["live", "replay"])
async def test_one_line_has_the_full_price(
    killed: str, openai: FakeOpenAi, settings: Settings, objects: ObjectStore, wav: bytes
) -> None:
    """A live transcription is killed after its n-th step, a replay with another configuration comes before the event is
    delivered again, and after that a second replay; or the replay is killed, and the live stage comes in between.
    Whatever n: two lines, one at the full price and one for nothing, whoever was first, and no object too many.

    A failure means that a customer pays twice for one call, or never.
    """
    live, replaying = openai_transcriber(openai, settings.s3), replay(settings, "recording")
    first, second = (live, replaying) if killed == "live" else (replaying, live)
    clean = new_recording(objects, wav)
    assert prices([await deliver(live, clean), await deliver(replaying, clean)]) == [Decimal(0), Decimal("0.01")]
    objects_of_a_call = shape(kept_of(objects, clean))
    for step in count(1):
        event, steps = new_recording(objects, wav), Steps(Fault.KILL, step)
        deliveries = [await deliver(first, event, steps)]
        deliveries += [await deliver(make, event) for make in (second, first, second)]
        where = f"{killed} is killed at step {step}, {steps.struck}"
        assert prices(deliveries) == [Decimal(0), Decimal("0.01")], where
        assert shape(kept_of(objects, event)) == objects_of_a_call, where
        if not steps.struck:
            break
    assert step > FEWEST_STEPS


async def test_a_replay_works_anew_and_a_live_stage_does_not(
    openai: FakeOpenAi, settings: Settings, objects: ObjectStore, wav: bytes
) -> None:
    """A call is transcribed live. The event is delivered to a live stage with another configuration, which publishes
    what was published before; then a replay with another configuration publishes another transcript.

    A failure means that an update processes calls anew, or that a replay changes nothing.
    """
    event = new_recording(objects, wav)
    before = await deliver(openai_transcriber(openai, settings.s3), event)
    again = await deliver(openai_transcriber(openai, settings.s3, prompt="another"), event)
    replayed = await deliver(replay(settings, "recording"), event)

    assert again.events == before.events
    ids = {
        one.event.transcript_id
        for delivered in (before, again, replayed)
        for one in delivered.outputs or ()
        if isinstance(one.event, TranscriptReady)
    }
    assert len(ids) == 2
    assert openai.asked.total() == 2


@pytest.mark.parametrize("stage", ["summary", "embedding"])
async def test_a_summary_and_an_embedding_have_one_full_price_each(
    stage: str, gemini: FakeGemini, settings: Settings, objects: ObjectStore
) -> None:
    """A live summary (embedding) is charged, and a replay with another configuration comes after it: what the customer
    pays is on one line, what we pay on both."""
    event = transcribed(objects, said(new_call(), "My router is broken.", "I'll send you a new one."))
    if stage == "summary":
        live, price = gemini_summarizer(gemini, settings.s3, model=gemini_rules.SUMMARIZERS[1]), Decimal("0.01")
        replayed = await deliver(live, event), await deliver(replay(settings, "summary"), event)
    else:
        live, price = gemini_embedder(gemini, settings.s3, settings.qdrant), Decimal("0.02")
        replayed = await deliver(live, event), await deliver(replay(settings, "embedding"), event)
    assert prices(replayed) == [Decimal(0), price]


async def test_each_part_of_a_call_has_a_full_price(settings: Settings, objects: ObjectStore, wav: bytes) -> None:
    """A replay is the first to process a call of two parts: both lines have the full price.

    A failure means that a call which was interrupted is not charged to its end.
    """
    first = new_recording(objects, wav)
    audio = objects.put(f"{first.audio.key}.2", wav[:-2], "audio/wav")
    second = first.model_copy(update={"part": 2, "event_id": f"{first.event_id}-2", "audio": audio})
    deliveries = [await deliver(replay(settings, "recording"), event) for event in (first, second)]
    assert prices(deliveries) == [Decimal("0.01"), Decimal("0.01")]


@pytest.mark.parametrize("stage", ["recording", "summary", "embedding"])
async def test_a_line_stays_what_it_was_when_prices_change(
    stage: ReplayStage, settings: Settings, objects: ObjectStore, wav: bytes
) -> None:
    """A replay is the first to process a call. Its job is delivered again after all prices and rates have changed: the
    line is the same to the byte.

    A failure means that the bill depends on what crashed when.
    """
    event: RecordingReady | TranscriptReady = new_recording(objects, wav)
    if stage != "recording":
        event = transcribed(objects, said(new_call(), "My router is broken.", "I'll send you a new one."))
    rates = dict.fromkeys((*gemini_rules.SUMMARIZERS, *gemini_rules.EMBEDDERS), TokenRates(input=Decimal(7)))
    dearer = DEARER.model_copy(update={"gemini_rates": rates, "openai_per_hour": Decimal(7)})
    before = await deliver(replay(settings, stage), event)
    after = await deliver(replay(settings.model_copy(update={"pricing": dearer}), stage), event)
    assert len(before.lines) == 1
    assert after.lines == before.lines


async def test_what_was_free_at_first_counts_as_the_first(settings: Settings, objects: ObjectStore) -> None:
    """A live summary costs nothing. Then summaries have a price, and the call is replayed: the line is at our cost
    alone.

    A failure means that months which are closed change.
    """
    event = transcribed(objects, said(new_call(), "My router is broken.", "I'll send you a new one."))
    free = await deliver(extractive_summarizer(settings.s3, PricingSettings()), event)
    assert free.lines == []
    assert prices([await deliver(replay(settings, "summary"), event)]) == [Decimal(0)]
