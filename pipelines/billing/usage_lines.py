"""Builds ledger lines."""

from pipelines.billing.pricing import Charge
from schemas.events import RecordingReady, TranscriptReady, UsageRecorded
from schemas.ids import uuid_of
from schemas.usage_keys import UsageKey


def usage_line(
    event: RecordingReady | TranscriptReady,
    key: UsageKey,
    charge: Charge,
    config_hash: str,
    *,
    provider: str,
    model: str,
) -> UsageRecorded:
    """Returns the ledger line for work on an event. Pure.

    It follows from the arguments alone, so that a line that is published again is the same.
    """
    if isinstance(event, RecordingReady):
        occurred_at_ms, call_started_at_ms = event.ended_at_ms, event.started_at_ms
    else:
        occurred_at_ms, call_started_at_ms = event.occurred_at_ms, event.call_started_at_ms
    return UsageRecorded(
        event_id=uuid_of("usage.recorded", str(key)),
        call_id=event.call_id,
        tenant=event.tenant,
        part=event.part,
        occurred_at_ms=occurred_at_ms,
        config_hash=config_hash,
        key=str(key),
        kind=key.kind,
        duration_ms=event.duration_ms,
        provider=provider,
        model=model,
        call_started_at_ms=call_started_at_ms,
        units=charge.units,
        provider_cost=charge.provider_cost,
        price=charge.price,
        currency=charge.currency,
        provider_ms=charge.provider_ms,
        cost_source=charge.cost_source,
        tokens=charge.tokens,
    )
