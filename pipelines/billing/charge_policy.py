"""Decides the price of a job: one job of each kind per part has the full price, over live calls and replays.

The ledger cannot decide that: its lines arrive later, and a live call that gave up has no line until its dead letter is
processed again.
"""

from core.settings import PricingSettings
from pipelines.billing.pricing import Charge, replay_charge
from pipelines.jobs.documents import Document
from pipelines.jobs.stage_record import FirstCharge, StageRecord, stage_document
from schemas.events import RecordingReady, TranscriptReady
from schemas.usage_keys import UsageKey
from sinks.object_store import ObjectStore


class ChargePolicy:
    """The usual charge for the first transcription (summary, embedding) of a part.

    The tenant's policy on replays decides about every other one.
    """

    def __init__(self, stage: str, objects: ObjectStore, pricing: PricingSettings, *, live: bool) -> None:
        """Creates a policy. live: True for a live stage, which publishes only once, whatever its configuration is."""
        self._stage = stage
        self._live = live
        self._objects = objects
        self._pricing = pricing

    async def __call__(
        self,
        event: RecordingReady | TranscriptReady,
        key: UsageKey,
        charge: Charge | None,
        stage_record: Document[StageRecord] | None = None,
    ) -> Charge | None:
        """Returns the charge for the ledger line with that key, None for no line.

        Raises RetryableError if object storage is unreachable. charge: the usual charge, None for free work.
        stage_record: of the event's part, if the caller has read it.
        """
        mine = FirstCharge(key=str(key), live=self._live, free=charge is None)
        document = stage_record or stage_document(self._objects, event, self._stage)
        record = await document.update(lambda stored: (stored or StageRecord()).with_first_charge(mine))
        first = record.first_charge or mine
        if first.key == mine.key or (first.live and mine.live):
            return None if first.free else charge
        return charge and replay_charge(charge, event.tenant, self._pricing)
