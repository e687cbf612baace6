"""A replay as its events and the outcomes of its parts tell it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from schemas.events import Frozen, ReplayCommand, ReplayedPart, ReplayOverrides, ReplayStage
from schemas.replays import WORK
from sinks.clickhouse.call_projection import Retry

RATE_WINDOW_MS = 60_000
RATE_AFTER_MS = 15_000  # from a start or a resumption until there is a rate

State = Literal["running", "stopped", "done"]


class ReplayDoc(Frozen):
    """A replay. parts: how many it is about; done, failed, skipped: how many of them are.

    duration_ms: audio of all its parts. per_minute: parts finished in the last minute; eta_s: how long the rest takes
    at that rate, None if nothing says. run: how often it has been started. tenant: "" if every tenant's calls.
    keep_current: its results do not count. reused: of the parts done, those of which every result was there before;
    switched: those of which another version counts since.
    """

    id: str
    tenant: str
    state: State
    stage: ReplayStage
    overrides: ReplayOverrides
    parts: int
    done: int
    failed: int
    skipped: int
    duration_ms: int
    requested_at_ms: int
    finished_at_ms: int | None = None
    per_minute: float = 0.0
    eta_s: int | None = None
    run: int = 1
    keep_current: bool = False
    reused: int = 0
    switched: int = 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many parts were done or skipped, when the others failed, when the last came to its end (ms since the epoch),
    when those within the window did, and how many had their results before or switched the version that counts."""

    counts: Mapping[str, int] = field(default_factory=dict)
    failed_ms: Sequence[int] = ()
    last_ms: int = 0
    recent_ms: Sequence[int] = ()
    reused: int = 0
    switched: int = 0


def build_replay(commands: Sequence[ReplayCommand], outcomes: Outcomes, now_ms: int) -> ReplayDoc:
    """The replay that these commands, at least one, and outcomes tell of. now_ms: for its rate."""
    run, stopped = run_of(commands)
    told = sorted(commands, key=lambda command: (command.occurred_at_ms, command.run))
    first = told[0]
    counts = outcomes.counts
    # What failed before the replay was resumed is tried again.
    resumed_ms = max((command.occurred_at_ms for command in told if command.action == "resume"), default=0)
    failed = sum(at_ms >= resumed_ms for at_ms in outcomes.failed_ms)
    left = max(0, first.parts - sum(counts.values()) - failed)
    # What came to its end before the replay was resumed says nothing about the rate now, nor do the first seconds.
    running_ms = now_ms - told[-1].occurred_at_ms
    recent = sum(at_ms >= told[-1].occurred_at_ms for at_ms in outcomes.recent_ms)
    known = running_ms >= RATE_AFTER_MS and left > 0 and not stopped
    per_minute = recent / (min(RATE_WINDOW_MS, running_ms) / 60_000) if known else 0.0
    return ReplayDoc(
        id=first.replay_id,
        tenant=first.tenant,
        state="done" if not left else "stopped" if stopped else "running",
        stage=first.stage,
        overrides=first.overrides,
        parts=first.parts,
        done=counts.get("done", 0),
        failed=failed,
        skipped=counts.get("skipped", 0),
        duration_ms=first.duration_ms,
        requested_at_ms=first.occurred_at_ms,
        finished_at_ms=None if left else max(outcomes.last_ms, first.occurred_at_ms),
        per_minute=round(per_minute, 1),
        eta_s=round(left / per_minute * 60) if per_minute else None,
        run=run,
        keep_current=first.keep_current,
        reused=outcomes.reused,
        switched=outcomes.switched,
    )


def retry_of(part: ReplayedPart, commands: Sequence[ReplayCommand]) -> Retry:
    """A part that a replay has begun or failed, as its call sees it: a retry that is under way or failed. commands: the
    replay's, at least one. A stopped replay is not under way; a resumed one has the parts that failed before to do."""
    run, stopped = run_of(commands)
    return Retry(
        part=part.part,
        stages=WORK[commands[0].stage],
        under_way=not stopped and (part.run < run or part.outcome == "begun"),
        at_ms=part.occurred_at_ms if part.outcome == "failed" else 0,
        stage=part.stage,
        reason=part.note,
    )


def run_of(commands: Sequence[ReplayCommand]) -> tuple[int, bool]:
    """The latest run, and whether it was stopped, in whatever order that was told."""
    run = max((command.run for command in commands), default=1)
    return run, any(command.action == "stop" and command.run == run for command in commands)
