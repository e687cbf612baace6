"""A replay's state, told by its commands and the outcomes of its parts."""

import itertools

from schemas.events import ObjectRef, ReplayCommand
from sinks.clickhouse.replay_projection import Outcomes, build_replay, latest_run
from tests.support.call_events import T0


def command(action: str, run: int, at_ms: int) -> ReplayCommand:
    return ReplayCommand.model_validate(
        {
            "event_id": f"{action}-{run}",
            "call_id": "rp",
            "tenant": "acme",
            "occurred_at_ms": T0 + at_ms,
            "replay_id": "rp",
            "action": action,
            "run": run,
            "stage": "recording",
            "plan": ObjectRef(key="p", sha256="0" * 64, size=1),
            "parts": 10,
            "duration_ms": 60_000,
        }
    )


START, STOP, RESUME = command("start", 1, 0), command("stop", 1, 10_000), command("resume", 2, 20_000)


def test_the_order_of_telling_does_not_matter() -> None:
    """Stopped and resumed: whatever order the log's partitions are read in, it runs for the second time."""
    for told in itertools.permutations([START, STOP, RESUME]):
        assert latest_run(told) == (2, False)
        assert build_replay(told, Outcomes(), T0 + 30_000).state == "running"
    assert build_replay([STOP, START], Outcomes(), T0 + 30_000).state == "stopped"


def test_rate_and_time_left() -> None:
    """4 of 10 parts in half a minute are 8 a minute, and 45 s for the other 6. If it failed, an operator would wait
    for nothing or go home too early."""
    recent = tuple(T0 + at_ms for at_ms in (5_000, 12_000, 19_000, 26_000))
    replay = build_replay([START], Outcomes({"done": 3, "skipped": 1}, recent_ms=recent), T0 + 30_000)
    assert (replay.per_minute, replay.eta_s, replay.state) == (8.0, 45, "running")
    stopped = build_replay([START, STOP], Outcomes({"done": 4}, recent_ms=recent), T0 + 30_000)
    assert (stopped.per_minute, stopped.eta_s) == (0, None)


def test_the_time_left_after_a_resumption() -> None:
    """Resumes a replay 20 s after its start, with 4 of 10 parts done before and one since.

    The rate is that since the resumption: one part in 20 s, 5 parts to go, so 100 s; and nothing is said in the first
    seconds. If this fails, parts done before the stop make the rest look quick.
    """
    recent = tuple(T0 + at_ms for at_ms in (5_000, 6_000, 7_000, 8_000, 33_000))
    outcomes = Outcomes({"done": 5}, recent_ms=recent)
    assert build_replay([START, STOP, RESUME], outcomes, T0 + 34_000).eta_s is None
    replay = build_replay([START, STOP, RESUME], outcomes, T0 + 40_000)
    assert (replay.per_minute, replay.eta_s) == (3.0, 100)


def test_what_failed_is_through_until_it_is_resumed() -> None:
    """With 8 done and 2 failed it is through; resumed, those 2 are still to come, until they fail or are done again."""
    outcomes = Outcomes({"done": 8}, failed_ms=(T0 + 5_000, T0 + 6_000), last_ms=T0 + 7_000)
    replay = build_replay([START], outcomes, T0 + 30_000)
    assert (replay.state, replay.failed, replay.finished_at_ms) == ("done", 2, T0 + 7_000)
    resumed = build_replay([START, RESUME], outcomes, T0 + 30_000)
    assert (resumed.state, resumed.failed) == ("running", 0)
    again = Outcomes({"done": 9}, failed_ms=(T0 + 25_000,))
    assert build_replay([START, RESUME], again, T0 + 30_000).state == "done"
