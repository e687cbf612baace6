"""Who is charged for a part first, decided once for live calls and replays alike. The ledger cannot be asked for that:
its lines come later, and a live call that gave up has none until it is told again."""

from core.settings import PricingSettings
from pipelines.billing.pricing import Charge, replay_charge
from pipelines.jobs import documents
from schemas.artifacts import charged_key
from schemas.events import Frozen, RecordingReady, TranscriptReady
from sinks.object_store import ObjectStore

_LIVE = "live"


class _FirstChargeRecord(Frozen):
    """by: who was first: the live stage, however configured (it tells once), or a replay's line. key: of that line.
    free: it cost nothing then, and there is none."""

    by: str
    key: str
    free: bool


class ChargeOncePolicy:
    """The usual charge for the first line of a part's transcription (summary, embedding); for every other one what the
    tenant's policy says of replays."""

    def __init__(self, objects: ObjectStore, pricing: PricingSettings, *, live: bool = True) -> None:
        """live: whether for the live stage."""
        self._live = live
        self._objects = objects
        self._pricing = pricing

    async def __call__(self, event: RecordingReady | TranscriptReady, key: str, charge: Charge | None) -> Charge | None:
        """The charge for the line with that key, None for no line. Raises RetryableError if the store is away."""
        kind, _, _ = key.partition("_")
        where = charged_key(event.tenant, event.call_id, event.part, kind)
        mine = _FirstChargeRecord(by=_LIVE if self._live else key, key=key, free=charge is None)
        first = await documents.put_if_absent(self._objects, where, mine)
        if first.by == mine.by or first.key == key:
            return None if first.free else charge
        return charge and replay_charge(charge, event.tenant, self._pricing)
