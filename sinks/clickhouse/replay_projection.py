"""A replay as its events and the outcomes of its parts tell it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from schemas.events import Frozen, ReplayCommand, ReplayOverrides, ReplayStage

RATE_WINDOW_MS = 60_000

State = Literal["running", "stopped", "done"]


class ReplayDoc(Frozen):
    """A replay. parts: how many it is about; done, failed, skipped: how many of them are.

    duration_ms: audio of all its parts. per_minute: parts finished in the last minute; eta_s: how long the rest takes
    at that rate, None if nothing says. run: how often it has been started. tenant: "" if every tenant's calls.
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


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many parts were done or skipped, when the others failed, when the last came to its end (ms since the epoch),
    and how many did within the window."""

    counts: Mapping[str, int] = field(default_factory=dict)
    failed_ms: Sequence[int] = ()
    last_ms: int = 0
    recent: int = 0


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
    minutes = min(RATE_WINDOW_MS, max(1_000, now_ms - told[-1].occurred_at_ms)) / 60_000
    per_minute = 0.0 if stopped or not left else outcomes.recent / minutes
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
    )


def run_of(commands: Sequence[ReplayCommand]) -> tuple[int, bool]:
    """The latest run, and whether it was stopped, in whatever order that was told."""
    run = max((command.run for command in commands), default=1)
    return run, any(command.action == "stop" and command.run == run for command in commands)
