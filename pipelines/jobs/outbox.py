"""What a live stage has told of an event, so that it tells the same when it is told of it again.

A result follows from its input and the stage's configuration; a stage that comes back with another one, after an
upgrade or with a new model, would do anew whatever it had done but not committed, and put it on the bill a second time.
Another configuration is what replays are for: those work without this.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from pipelines.jobs import documents
from pipelines.runtime.stage import Handler, Output
from schemas.artifacts import stored_output_key
from schemas.events import AnyEvent, Event, Frozen
from schemas.ids import uuid_of
from sinks.object_store import ObjectStore

E = TypeVar("E", bound=Event)


class _StageHandler(Frozen):
    topic: str
    event: AnyEvent


class _StoredOutputs(Frozen):
    tellings: list[_StageHandler]


class IdempotentStage(Generic[E]):
    """A stage's work, done until it is told. Who tells first tells for all, whatever is killed, however configured."""

    def __init__(self, stage: str, work: Handler[E], objects: ObjectStore) -> None:
        """stage: its name. work: as a replay would do it, too."""
        self._stage = stage
        self._work = work
        self._objects = objects

    async def __call__(self, event: E) -> Sequence[Output]:
        """The same outputs for the same event, for ever. Raises pipelines.runtime.errors."""
        key = stored_output_key(event.tenant, event.call_id, uuid_of("told", self._stage, event.event_id))
        told = await documents.get_or_none(self._objects, key, _StoredOutputs)
        if told is None:
            outputs = await self._work(event)
            tellings = [_StageHandler.model_validate({"topic": one.topic, "event": one.event}) for one in outputs]
            told = await documents.put_if_absent(self._objects, key, _StoredOutputs(tellings=tellings))
        return [Output(telling.topic, telling.event) for telling in told.tellings]
