"""What is charged for what a replay makes."""

import asyncio

from audiotext.settings import PricingSettings
from pipelines.pricing import Charge, replay_charge
from pipelines.runtime.errors import RetryableError
from schemas.events import RecordingReady, TranscriptReady
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.replay_store import ReplayStore


class ReplayCharges:
    """Who was never charged for a part's transcription (summary, embedding) is now, as for a live call; who was, by
    the tenant's policy alone."""

    def __init__(self, store: ReplayStore, pricing: PricingSettings) -> None:
        self._store = store
        self._pricing = pricing

    async def __call__(self, event: RecordingReady | TranscriptReady, key: str, charge: Charge) -> Charge:
        """The charge for the line with that key. Raises RetryableError if the bill cannot be looked at."""
        kind, _, _ = key.partition("_")
        try:
            lines = await asyncio.to_thread(self._store.lines, event.tenant, event.call_id, event.part, kind)
        except StoreUnavailableError as error:
            raise RetryableError(str(error)) from error
        return replay_charge(charge, event.tenant, self._pricing) if lines - {key} else charge
