"""What is charged for what a replay makes."""

import asyncio

from core.settings import PricingSettings
from pipelines.billing.charge_policy import ChargeOncePolicy
from pipelines.billing.pricing import Charge, replay_charge
from pipelines.runtime.errors import RetryableError
from schemas.events import RecordingReady, TranscriptReady
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore


class ReplayChargePolicy:
    """Who was never charged for a part's transcription (summary, embedding) is now, as for a live call; who was, by
    the tenant's policy alone."""

    def __init__(self, store: ReplayStore, objects: ObjectStore, pricing: PricingSettings) -> None:
        self._store = store
        self._pricing = pricing
        self._first_charge = ChargeOncePolicy(objects, pricing, live=False)

    async def __call__(self, event: RecordingReady | TranscriptReady, key: str, charge: Charge | None) -> Charge | None:
        """The charge for the line with that key, None for no line. Raises RetryableError if the bill or the store
        cannot be looked at."""
        kind, _, _ = key.partition("_")
        try:
            lines = await asyncio.to_thread(self._store.ledger_keys, event.tenant, event.call_id, event.part, kind)
        except StoreUnavailableError as error:
            raise RetryableError(str(error)) from error
        if lines - {key}:  # also from before it was written down which was the first
            return charge and replay_charge(charge, event.tenant, self._pricing)
        return await self._first_charge(event, key, charge)
