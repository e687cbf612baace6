"""Asking for a replay, stopping it, going on with it: what is put on the log for it."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Literal

from core.errors import UserError
from pipelines.replay.selection import SelectionResult
from schemas.artifacts import ReplayPlan, plan_key
from schemas.events import Event, ReplayCommand, ReplayOverrides, ReplayStage
from schemas.ids import uuid_of
from schemas.topics import Topic
from sinks.clickhouse.replay_projection import ReplayDoc
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore

Publish = Callable[[str, Sequence[Event]], None]
"""Puts events on a topic, and returns once the log has them."""


class ReplayStateError(UserError):
    """The replay is not in a state in which that can be done."""


class ReplayService:
    """Where replays are asked for. Methods raise LogUnavailableError and ObjectStoreError, after which nothing is under
    way, and StoreUnavailableError if it is under way but cannot be seen yet. Thread-safe."""

    def __init__(self, tell: Publish, objects: ObjectStore, store: ReplayStore) -> None:
        self._tell = tell
        self._objects = objects
        self._store = store

    def start(
        self,
        chosen: SelectionResult,
        stage: ReplayStage,
        overrides: ReplayOverrides,
        *,
        tenant: str | None,
        keep_current: bool = False,
    ) -> str:
        """Asks for a replay of the chosen parts and returns its id. tenant: who asks; None = who sees every tenant.
        keep_current: the versions that count still count afterwards."""
        replay_id = f"rp-{time.strftime('%Y%m%d', time.gmtime())}-{uuid.uuid4().hex[:12]}"
        plan = ReplayPlan(parts=chosen.plan).model_dump_json().encode()
        self._say(
            ReplayCommand(
                event_id=uuid_of("replay.command", replay_id, "start", 1),
                call_id=replay_id,
                tenant=tenant or "",
                occurred_at_ms=time.time_ns() // 1_000_000,
                replay_id=replay_id,
                action="start",
                stage=stage,
                overrides=overrides,
                plan=self._objects.put(plan_key(replay_id), plan, "application/json"),
                parts=len(chosen.parts),
                duration_ms=chosen.duration_ms,
                keep_current=keep_current,
            )
        )
        return replay_id

    def stop(self, replay: ReplayDoc) -> None:
        """Stops a replay. Raises ReplayStateError if it is through."""
        if replay.state == "done":
            raise ReplayStateError(f"{replay.id} is through: there is nothing to stop")
        if replay.state == "running":
            self._control(replay, "stop", replay.run)

    def resume(self, replay: ReplayDoc) -> None:
        """Goes on with what is not done yet, what failed included. Raises ReplayStateError if there is nothing."""
        if replay.state == "done" and not replay.failed:
            raise ReplayStateError(f"{replay.id} is through: there is nothing to go on with")
        if replay.state != "running":
            self._control(replay, "resume", replay.run + 1)

    def _control(self, replay: ReplayDoc, action: Literal["stop", "resume"], run: int) -> None:
        told = self._store.commands(None, replay_id=replay.id)[replay.id]
        self._say(
            told[0].model_copy(
                update={
                    "event_id": uuid_of("replay.command", replay.id, action, run),
                    "occurred_at_ms": time.time_ns() // 1_000_000,
                    "action": action,
                    "run": run,
                }
            )
        )

    def _say(self, command: ReplayCommand) -> None:
        self._tell(Topic.REPLAY_COMMANDS, [command])
        self._store.put(command)
