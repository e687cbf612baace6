"""Starts, stops and resumes replays by commands on the log."""

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
"""Publishes events on a topic and returns once the log has them."""


class ReplayStateError(UserError):
    """The command is not possible in the replay's state."""


class ReplayService:
    """Starts, stops and resumes replays. Thread-safe.

    Methods raise LogUnavailableError and ObjectStoreError if the command was not published, and StoreUnavailableError
    if it was published but is not visible yet.
    """

    def __init__(self, publish: Publish, objects: ObjectStore, store: ReplayStore) -> None:
        self._publish = publish
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
        """Starts a replay of the selected parts and returns its id.

        tenant: tenant of the client; None = it sees every tenant. keep_current: keeps the current versions.
        """
        replay_id = f"rp-{time.strftime('%Y%m%d', time.gmtime())}-{uuid.uuid4().hex[:12]}"
        plan = ReplayPlan(parts=chosen.plan).model_dump_json().encode()
        self._send(
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
        """Stops a replay. Raises ReplayStateError if it is done."""
        if replay.state == "done":
            raise ReplayStateError(f"{replay.id} is done: there is nothing to stop")
        if replay.state == "running":
            self._control(replay, "stop", replay.run)

    def resume(self, replay: ReplayDoc) -> None:
        """Resumes a replay with all parts that are not done, including failed ones.

        Raises ReplayStateError if no part is left.
        """
        if replay.state == "done" and not replay.failed:
            raise ReplayStateError(f"{replay.id} is done: there is nothing to resume")
        if replay.state != "running":
            self._control(replay, "resume", replay.run + 1)

    def _control(self, replay: ReplayDoc, action: Literal["stop", "resume"], run: int) -> None:
        commands = self._store.commands(None, replay_id=replay.id)[replay.id]
        self._send(
            commands[0].model_copy(
                update={
                    "event_id": uuid_of("replay.command", replay.id, action, run),
                    "occurred_at_ms": time.time_ns() // 1_000_000,
                    "action": action,
                    "run": run,
                }
            )
        )

    def _send(self, command: ReplayCommand) -> None:
        self._publish(Topic.REPLAY_COMMANDS, [command])
        self._store.put(command)
