"""A call's failure, in the API's documents and in the views: the latest one, and none while somebody tries again."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from core.settings import ClickHouseSettings
from schemas.events import AnyEvent, LetterReplayed, ObjectRef, ReplayCommand, ReplayedPart, ReplayStage, StageFailed
from schemas.ids import uuid_of
from schemas.replays import outcome
from sinks.clickhouse.call_list_query import CallFilter
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import Database
from sinks.clickhouse.rows import event_row, replay_row
from tests.support.call_events import Call

CALL = Call("CA1")  # what its events say does not depend on the tenant


def letter(stage: str, at: int, error: str, part: int = 1) -> StageFailed:
    """A stage gives up, at so many ms of the call."""
    event = CALL.failed(stage, at, part)
    return event.model_copy(update={"event_id": uuid_of("letter", stage, at, part), "error": error})


def given_back(one: StageFailed, at: int) -> LetterReplayed:
    """The letter is given back to its stage."""
    return LetterReplayed(
        event_id=uuid_of("given-back", one.event_id),
        call_id=one.call_id,
        tenant=one.tenant,
        part=one.part,
        occurred_at_ms=CALL.t0 + at,
        letter_id=one.event_id,
    )


def command(action: str, at: int, run: int = 1, stage: ReplayStage = "recording") -> ReplayCommand:
    """Somebody starts, stops or resumes the replay."""
    return ReplayCommand.model_validate(
        {
            "event_id": f"{action}-{run}-{at}",
            "call_id": "rp",
            "tenant": "",
            "occurred_at_ms": CALL.t0 + at,
            "replay_id": "rp",
            "action": action,
            "run": run,
            "stage": stage,
            "plan": ObjectRef(key="p", sha256="0" * 64, size=1),
            "parts": 1,
            "duration_ms": 60_000,
        }
    )


def part(what: str, at: int, **more: str | int) -> ReplayedPart:
    """The replay begins the call's first part, or ends it."""
    return outcome("rp", "acme", "CA1", 1, CALL.t0 + at, outcome=what, **more)


FIRST, SECOND = letter("transcribe", 70_000, "401 wrong key"), letter("transcribe", 90_000, "NoSuchKey")
LATE = letter("embed", 95_000, "Qdrant refuses", part=2)
START = command("start", 80_000)
BEGUN = part("begun", 80_000)
REFUSED = part("failed", 85_000, note="402 pay first", stage="transcribe")


@dataclass(frozen=True)
class Case:
    """Events, and the failure that the call shows after them."""

    name: str
    events: Sequence[AnyEvent]
    failure: tuple[str, str] | None
    status: str = "recorded"
    replays: Sequence[ReplayCommand | ReplayedPart] = field(default=())


CASES = [
    Case("it failed", [FIRST], ("transcribe", "401 wrong key")),
    Case("given back", [FIRST, given_back(FIRST, 80_000)], None),
    Case("failed again", [FIRST, given_back(FIRST, 80_000), SECOND], ("transcribe", "NoSuchKey")),
    Case("given back twice", [FIRST, given_back(FIRST, 80_000), SECOND, given_back(SECOND, 99_000)], None),
    Case("the latest of two", [FIRST, SECOND], ("transcribe", "NoSuchKey")),
    Case("another stage, another part", [FIRST, CALL.recording(61_500, 2), LATE], ("embed", "Qdrant refuses")),
    Case("healed", [FIRST, CALL.transcript(95_000)], None, "transcribed"),
    Case("a late duplicate", [CALL.transcript(65_000), SECOND], None, "transcribed"),
    Case("a replay is under way", [FIRST], None, replays=[START, BEGUN]),
    Case("told before it was planned", [FIRST], ("transcribe", "401 wrong key"), replays=[START]),
    Case("the replay failed", [FIRST], ("transcribe", "402 pay first"), replays=[START, BEGUN, REFUSED]),
    Case("it failed after the replay did", [SECOND], ("transcribe", "NoSuchKey"), replays=[START, BEGUN, REFUSED]),
    Case(
        "given back after the replay failed",
        [FIRST, given_back(FIRST, 89_000)],
        None,
        replays=[START, BEGUN, REFUSED],
    ),
    Case("the replay was resumed", [FIRST], None, replays=[START, REFUSED, command("resume", 90_000, 2)]),
    Case(
        "the replay was stopped",
        [FIRST],
        ("transcribe", "401 wrong key"),
        replays=[START, BEGUN, command("stop", 81_000)],
    ),
    Case(
        "a replay of something else",
        [FIRST],
        ("transcribe", "401 wrong key"),
        replays=[command("start", 80_000, stage="summary"), BEGUN],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_latest_failure_and_none_while_it_is_tried_again(clickhouse: ClickHouseSettings, case: Case) -> None:
    """A recorded call, the case's events in reverse and twice: the document, the list and the views `calls` and
    `current_failures` show the same failure. If it failed, an operator would mend what was mended long ago, or not see
    what is wrong now."""
    database, store, tenant = Database(clickhouse), CallStore(clickhouse), f"tenant-{uuid.uuid4()}"
    replay_id = f"rp-{tenant}"
    events = [event.model_copy(update={"tenant": tenant}) for event in [CALL.recording(), *case.events]]
    replays = [
        event.model_copy(
            update={"replay_id": replay_id} | ({"tenant": tenant} if isinstance(event, ReplayedPart) else {})
        )
        for event in case.replays
    ]
    for _ in range(2):
        database.insert([*map(event_row, reversed(events)), *map(replay_row, reversed(replays))])

    call = store.get_call("CA1", tenant)

    assert call is not None
    shown = (call.failed_stage, call.failed_reason)
    assert shown == (case.failure or (None, None))
    assert call.status == ("failed" if case.failure else case.status)
    assert [one.status for one in store.list_calls(CallFilter(tenant=tenant, status=call.status))[0]] == [call.status]
    where = "WHERE tenant = {tenant:String}"
    [row] = database.query(f"SELECT failed_stage, failed_reason, status FROM calls {where}", {"tenant": tenant})
    assert (row["failed_stage"], row["failed_reason"]) == (case.failure or ("", ""))
    assert row["status"] == call.status
    standing = database.query(f"SELECT failed_stage FROM current_failures {where}", {"tenant": tenant})
    assert bool(standing) == bool(case.failure)
