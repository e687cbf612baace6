"""A replay's jobs, as records on the log."""

from pipelines.replay.planner import _groups
from schemas.events import Gap, ReplayInput, TrackOutline
from sinks.object_store import ObjectStore
from tests.support.pipeline_events import NOTHING, recording


class Nowhere(ObjectStore):
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        pass

    def put(self, key: str, data: bytes, content_type: str) -> object:  # type: ignore[override]  # a test's short cut
        return NOTHING


def test_a_job_is_no_larger_than_the_log_takes() -> None:
    """Thirty short calls with a thousand gaps each lie side by side on the log. They become several jobs, none of them
    near the megabyte that the log takes in one record, in their order; few gaps, and they are one job."""
    event = recording(Nowhere(), "CA1", b"", 1000)
    few = [(0, offset, ReplayInput(recording=event)) for offset in range(30)]
    assert [len(group) for group in _groups(few)] == [30]
    gaps = [
        Gap(start_ms=1_000_000 * number, end_ms=1_000_000 * number + 20, reason="missing") for number in range(1000)
    ]
    broken = event.model_copy(update={"tracks": [TrackOutline(name="inbound", audio_ms=1, gaps=gaps)]})
    many = [(0, offset, ReplayInput(recording=broken, note=str(offset))) for offset in range(30)]
    groups = list(_groups(many))
    assert [one for group in groups for one in group] == [one for *_, one in many]
    assert max(sum(len(one.model_dump_json()) for one in group) for group in groups) < 500_000
