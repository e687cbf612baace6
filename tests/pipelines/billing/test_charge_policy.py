"""One full charge for each part and kind of work, whoever comes first."""

import asyncio
from decimal import Decimal

import pytest

from core.settings import PricingSettings, S3Settings
from pipelines.billing.charge_policy import ChargePolicy
from pipelines.billing.pricing import Charge
from schemas.usage_keys import UsageKey, UsageKind
from sinks.object_store import ObjectStore
from tests.support.call_events import Call
from tests.support.ids import new_call

USUAL = Charge(units=50, provider_cost=Decimal("0.0017"), price=Decimal("0.01"), currency="USD")
COST_ALONE = USUAL.model_copy(update={"units": 0, "price": Decimal(0)})


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The store."""
    store = ObjectStore(s3)
    store.ensure_bucket()
    return store


class Part:
    """A part of a new call, that live stages and replays charge for. By default no tenant is charged for replays."""

    def __init__(self, objects: ObjectStore, pricing: PricingSettings | None = None) -> None:
        self._event = Call(new_call()).recording()
        self._objects = objects
        self._pricing = pricing or PricingSettings()

    def charged(self, key: str, charge: Charge | None = USUAL, *, live: bool) -> Charge | None:
        """What is charged for the line with that key."""
        kind, _, job_id = key.partition("_")
        charges = ChargePolicy(f"stage of {kind}", self._objects, self._pricing, live=live)
        return asyncio.run(charges(self._event, UsageKey(UsageKind(kind), job_id), charge))


def test_a_replay_that_comes_before_the_live_stage_is_the_one_that_is_charged(objects: ObjectStore) -> None:
    """Live transcription gives up, a replay with another model is charged as a live call, then the live stage is told
    again by the dead letter: two full lines it was, for one call. The replay's own line stays what it is."""
    part = Part(objects)
    assert part.charged("transcription_tiny", live=False) == USUAL
    assert part.charged("transcription_base", live=True) == COST_ALONE
    assert part.charged("transcription_tiny", live=False) == USUAL
    assert part.charged("summary_x", live=True) == USUAL


def test_a_live_stage_is_charged_whatever_its_settings_are_now(objects: ObjectStore) -> None:
    """It was killed before it told, and comes back with another model: it tells once, so that line is the charged one.
    A replay with a third one is not."""
    part = Part(objects)
    assert part.charged("transcription_base", live=True) == USUAL
    assert part.charged("transcription_small", live=True) == USUAL
    assert part.charged("transcription_tiny", live=False) == COST_ALONE


def test_what_was_free_stays_free(objects: ObjectStore) -> None:
    """A summary cost nothing when the call was live. Later it has a price, and the call is replayed: nothing for the
    same settings, and no price for others. Months that are closed would change otherwise."""
    part = Part(objects)
    assert part.charged("summary_a", None, live=True) is None
    assert part.charged("summary_a", live=False) is None
    assert part.charged("summary_b", live=False) == COST_ALONE


@pytest.mark.parametrize(
    ("policy", "before", "charged"),
    [
        ({}, ("transcription_old",), False),
        ({"acme": True}, ("transcription_old",), True),
        ({"*": True, "acme": False}, ("transcription_old",), False),
        ({"*": True}, ("transcription_old",), True),
        ({}, (), True),  # never transcribed before: an ordinary transcription
        ({}, ("summary_old",), True),  # a summary was charged, a transcription was not
        ({}, ("transcription_new",), True),  # its own line, published again
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_the_tenant_pays_by_its_policy(
    *, live: bool, objects: ObjectStore, policy: dict[str, bool], before: tuple[str, ...], charged: bool
) -> None:
    """A transcription made by a replay, after a live stage or a replay has charged something: it is on the bill at what
    the provider costs, always; the customer pays for it only if the policy says so or nothing was paid before. If it
    failed, customers would pay for our experiments, or the first transcription of a failed call would be free."""
    part = Part(objects, PricingSettings(charge_replays=policy))
    for key in before:
        part.charged(key, live=live)
    charge = part.charged("transcription_new", live=False)
    assert charge is not None
    assert charge.provider_cost == USUAL.provider_cost
    assert (charge.units, charge.price) == ((50, USUAL.price) if charged else (0, Decimal(0)))
