"""All summarizers, one behaviour: the same input, the same shape of result, the same errors, the same ledger."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from pydantic import SecretStr

from core.health_check import HealthCheck
from core.settings import GeminiSettings, PricingSettings, S3Settings, SummarySettings
from pipelines.providers.base import NOTHING_SAID, Summarizer
from pipelines.providers.extractive.summarizer import Extractive
from pipelines.providers.gemini.summarizer import GeminiSummarizer
from pipelines.runtime.errors import PermanentError
from pipelines.summarize.handler import SummarizeHandler
from schemas.artifacts import Summary
from schemas.events import Event, SummaryReady, TranscriptReady, UsageRecorded
from schemas.topics import Topic
from sinks.object_store import ObjectStore
from tests.fakes import gemini as fake
from tests.fakes.gemini import Answer, FakeGemini
from tests.support.ids import new_call
from tests.support.pipeline_events import STARTED_MS, said, transcribed

CALL = (
    "My router has been broken since Monday. The light on the front of the router flashes red.",
    "I'll send you a new router tomorrow morning.",
)


@pytest.fixture(params=["extractive", "gemini"])
def summarizer(request: pytest.FixtureRequest, google: FakeGemini) -> Summarizer:
    """Each of them."""
    if request.param == "gemini":
        gemini = GeminiSettings(base_url=google.url, api_key=SecretStr(fake.KEY))
        return GeminiSummarizer(gemini, SummarySettings(), fake.KEY)
    return Extractive()


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage."""
    return ObjectStore(s3)


async def told(
    summarizer: Summarizer, objects: ObjectStore, event: TranscriptReady, pricing: PricingSettings | None = None
) -> tuple[SummaryReady, UsageRecorded | None]:
    """The handler's outputs: the summary, and its line if there is one."""
    outputs = await SummarizeHandler(summarizer, objects, pricing or PricingSettings())(event)
    assert [output.topic for output in outputs] == [Topic.SUMMARY_READY, Topic.USAGE_RECORDED][: len(outputs)]
    events: Sequence[Event] = [output.event for output in outputs]
    ready = events[0]
    line = events[1] if len(events) > 1 else None
    assert isinstance(ready, SummaryReady)
    assert line is None or isinstance(line, UsageRecorded)
    return ready, line


async def test_the_shape(summarizer: Summarizer, objects: ObjectStore) -> None:
    """A call becomes an abstract and two lists of plain strings, in the event and in the object it names. Readers of
    the fixed interface need not know who summarized."""
    ready, _ = await told(summarizer, objects, transcribed(objects, said(new_call(), *CALL)))

    assert "router" in ready.abstract
    [item] = ready.action_items
    owner, _, task = item.partition(": ")
    assert owner
    assert "a new router tomorrow morning" in task
    assert ready.key_points
    stored = Summary.model_validate_json(objects.get_verified(ready.summary))
    assert stored.model_dump(exclude={"call_id"}) == {
        name: value for name, value in ready.model_dump().items() if name in Summary.model_fields and name != "call_id"
    }
    assert (ready.provider, ready.model) == (summarizer.name, summarizer.model)


async def test_the_ledger(summarizer: Summarizer, objects: ObjectStore) -> None:
    """Where a summary has a price it has one line, with the same key, price, units and day whoever made it; the cost is
    what the provider took. Told again, with other prices in the settings meanwhile, the line is the same to the letter.
    """
    event = transcribed(objects, said(new_call(), *CALL))
    ready, line = await told(summarizer, objects, event, PricingSettings(price_per_summary=Decimal("0.01")))
    again, same = await told(summarizer, objects, event, PricingSettings(price_per_summary=Decimal("9")))

    assert line is not None
    assert line == same
    assert again.event_id == ready.event_id
    assert line.key == f"summary_{ready.summary.key.rpartition('/')[2].removesuffix('.json')}"
    assert (line.kind, line.units, line.price, line.currency) == ("summary", 0, Decimal("0.01"), "USD")
    assert (line.duration_ms, line.call_started_at_ms) == (2000, STARTED_MS)
    assert (line.provider, line.model) == (summarizer.name, summarizer.model)
    assert (line.provider_cost > 0) == (line.tokens is not None) == (summarizer.name == "gemini")


async def test_what_costs_nothing_has_no_line(summarizer: Summarizer, objects: ObjectStore) -> None:
    """By default a summary is part of what the minutes cost. Without a provider's bill there is nothing to book, and a
    call in which nobody spoke is sent nowhere."""
    ready, line = await told(summarizer, objects, transcribed(objects, said(new_call())))

    assert (ready.abstract, ready.key_points, ready.action_items) == (NOTHING_SAID, [], [])
    assert line is None


async def test_errors(summarizer: Summarizer, objects: ObjectStore) -> None:
    """A transcript that is gone is given up, whoever should summarize it."""
    event = transcribed(objects, said(new_call(), *CALL))
    objects.remove(event.transcript.key)

    with pytest.raises(PermanentError, match="gone"):
        await told(summarizer, objects, event)


async def test_check(summarizer: Summarizer) -> None:
    """Each can say whether it would work."""
    assert isinstance(summarizer, HealthCheck)
    check = await summarizer.check()
    assert check.ok, check
    assert check.name


async def test_the_cost_is_the_tokens(google: FakeGemini, objects: ObjectStore) -> None:
    """Gemini counts a million of each kind; the line has what Google's price list says for that, exactly. An answer
    that was of no use before is on the same line, since it was billed."""
    gemini = GeminiSettings(base_url=google.url, api_key=SecretStr(fake.KEY))
    summarizer = GeminiSummarizer(gemini, SummarySettings(), fake.KEY)
    event = transcribed(objects, said(new_call(), *CALL))
    google.script = [Answer("{", tokens=(1_000_000, 1_000_000, 1_000_000, 500_000))]
    with pytest.raises(Exception, match="does not match the schema"):
        await told(summarizer, objects, event)

    _, line = await told(summarizer, objects, event)

    assert line is not None
    assert line.tokens is not None
    assert (line.tokens.thoughts, line.tokens.cached) == (1_000_007, 500_000)
    cost = (Decimal(line.tokens.prompt) * 30 + Decimal(line.tokens.candidates + line.tokens.thoughts) * 250) / 10**8
    assert line.provider_cost == cost.quantize(Decimal("0.000001"))
    assert (line.price, line.units) == (Decimal(0), 0)
