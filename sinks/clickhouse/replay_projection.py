"""Builds the state of a replay from its commands and the outcomes of its parts. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from schemas.events import Frozen, ReplayCommand, ReplayedPart, ReplayOverrides, ReplayStage
from schemas.replays import WORK
from sinks.clickhouse.call_projection import Retry

RATE_WINDOW_MS = 60_000
RATE_AFTER_MS = 15_000  # time after a start or a resumption until a rate is computed

State = Literal["running", "stopped", "done"]


class ReplayDoc(Frozen):
    """Replay and its progress; api.replay_models.ReplayItem describes the fields."""

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
    """Outcomes of a replay's parts. Times in ms since the epoch.

    counts: number of done and skipped parts.
    failed_ms: end of each failed part; last_ms: end of the last part; recent_ms: ends within the rate window.
    reused, switched: see ReplayDoc.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    failed_ms: Sequence[int] = ()
    last_ms: int = 0
    recent_ms: Sequence[int] = ()
    reused: int = 0
    switched: int = 0


def build_replay(commands: Sequence[ReplayCommand], outcomes: Outcomes, now_ms: int) -> ReplayDoc:
    """Returns the replay with these commands (at least one) and outcomes. now_ms: current time, for the rate."""
    run, stopped = latest_run(commands)
    ordered = sorted(commands, key=lambda command: (command.occurred_at_ms, command.run))
    first = ordered[0]
    counts = outcomes.counts
    # Parts that failed before a resumption are tried again.
    resumed_ms = max((command.occurred_at_ms for command in ordered if command.action == "resume"), default=0)
    failed = sum(at_ms >= resumed_ms for at_ms in outcomes.failed_ms)
    left = max(0, first.parts - sum(counts.values()) - failed)
    # Parts finished before the last command do not show the current rate, and the first seconds do not either.
    running_ms = now_ms - ordered[-1].occurred_at_ms
    recent = sum(at_ms >= ordered[-1].occurred_at_ms for at_ms in outcomes.recent_ms)
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


def retry_from(part: ReplayedPart, commands: Sequence[ReplayCommand]) -> Retry:
    """Returns the retry that a begun or failed part of a replay means for its call.

    commands: the replay's commands, at least one. A stopped replay is not in progress; a resumed one processes the
    parts that failed before again.
    """
    run, stopped = latest_run(commands)
    return Retry(
        part=part.part,
        stages=WORK[commands[0].stage],
        in_progress=not stopped and (part.run < run or part.outcome == "begun"),
        at_ms=part.occurred_at_ms if part.outcome == "failed" else 0,
        stage=part.stage,
        reason=part.note,
    )


def latest_run(commands: Sequence[ReplayCommand]) -> tuple[int, bool]:
    """Returns the latest run and whether it was stopped. The order of the commands does not matter."""
    run = max((command.run for command in commands), default=1)
    return run, any(command.action == "stop" and command.run == run for command in commands)
