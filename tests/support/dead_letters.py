"""Dead letters for tests."""

from schemas.events import StageFailed
from schemas.topics import Topic


def letter(name: str, at_ms: int = 1, payload: str = "{}", origin: str = Topic.RECORDING_READY) -> StageFailed:
    """Returns a dead letter."""
    return StageFailed(
        event_id=name,
        call_id=f"call-{name}",
        tenant="t",
        occurred_at_ms=at_ms,
        stage="transcribe",
        error_class="permanent",
        error="401",
        attempts=1,
        origin_topic=origin,
        origin_partition=0,
        origin_offset=7,
        payload=payload,
    )
