"""What a transcription that a replay makes is charged."""

import asyncio

from audiotext.settings import PricingSettings
from pipelines.pricing import Charge, replay_charge
from pipelines.runtime.errors import RetryableError
from schemas.events import RecordingReady
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.replay_store import ReplayStore


class ReplayCharges:
    """Who was never charged for a part's transcription is now, as for a live call; who was, only by the tenant's
    policy."""

    def __init__(self, store: ReplayStore, pricing: PricingSettings) -> None:
        self._store = store
        self._pricing = pricing

    async def __call__(self, recording: RecordingReady, key: str, charge: Charge) -> Charge:
        """The charge for the line with that key. Raises RetryableError if the bill cannot be looked at."""
        try:
            lines = await asyncio.to_thread(
                self._store.transcriptions, recording.tenant, recording.call_id, recording.part
            )
        except StoreUnavailableError as error:
            raise RetryableError(str(error)) from error
        return replay_charge(charge, recording.tenant, self._pricing) if lines - {key} else charge
