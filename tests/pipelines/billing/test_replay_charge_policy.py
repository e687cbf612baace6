"""Who pays for a replay."""

import asyncio
from decimal import Decimal
from typing import cast

import pytest

from core.settings import PricingSettings, S3Settings
from pipelines.billing.pricing import Charge
from pipelines.billing.replay_charge_policy import ReplayChargePolicy
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from tests.pipelines.made import new_call
from tests.sinks.clickhouse.telling import Call

USUAL = Charge(units=50, provider_cost=Decimal("0.0017"), price=Decimal("0.01"), currency="USD")


class Bill:
    """The lines of a part, by kind."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def lines(self, tenant: str, call_id: str, part: int, kind: str) -> set[str]:
        return {key for key in self.keys if key.startswith(kind)}


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The store."""
    store = ObjectStore(s3)
    store.ensure_bucket()
    return store


@pytest.mark.parametrize(
    ("policy", "billed", "charged"),
    [
        ({}, ("transcription_old",), False),
        ({"acme": True}, ("transcription_old",), True),
        ({"*": True, "acme": False}, ("transcription_old",), False),
        ({"*": True}, ("transcription_old",), True),
        ({}, (), True),  # never transcribed before: an ordinary transcription
        ({}, ("summary_old",), True),  # a summary was charged, a transcription was not
        ({}, ("transcription_new",), True),  # its own line, told again
    ],
)
def test_the_tenant_pays_by_its_policy(
    objects: ObjectStore, policy: dict[str, bool], billed: tuple[str, ...], charged: bool
) -> None:
    """A transcription made by a replay is on the bill at what the provider costs, always; the customer pays for it only
    if the policy says so or nothing was paid before. If it failed, customers would pay for our experiments, or the
    first transcription of a failed call would be free."""
    charges = ReplayChargePolicy(cast(ReplayStore, Bill(*billed)), objects, PricingSettings(charge_replays=policy))
    charge = asyncio.run(charges(Call(new_call()).recording(), "transcription_new", USUAL))
    assert charge is not None
    assert charge.provider_cost == USUAL.provider_cost
    assert (charge.units, charge.price) == ((50, USUAL.price) if charged else (0, Decimal(0)))
