"""The record of what a stage has published and charged for one part of a call, whatever its configuration is.

A result follows from its input and the configuration. A live stage that restarts with another configuration, after an
upgrade or with a new model, would repeat work whose offset is not committed yet, and charge it a second time. The
record prevents that: it is an outbox by input event. Replays are meant to use another configuration and bypass it.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from pydantic import Field

from pipelines.jobs.documents import Document
from pipelines.runtime.stage import Output
from schemas.artifacts import stage_record_key
from schemas.events import AnyEvent, Event, Frozen
from sinks.object_store import ObjectStore

E = TypeVar("E", bound=Event)
E_contra = TypeVar("E_contra", bound=Event, contravariant=True)


class StoredOutput(Frozen):
    """A published event and its topic."""

    topic: str
    event: AnyEvent


class FirstCharge(Frozen):
    """The first charge for a part.

    key: its ledger key. live: False if a replay was first. free: the first run cost nothing and has no ledger line.
    """

    key: str
    live: bool
    free: bool


class StageRecord(Frozen):
    """Outputs and first charge of a stage for one part. outputs: by the id of the input event."""

    outputs: dict[str, list[StoredOutput]] = Field(default_factory=dict)
    first_charge: FirstCharge | None = None

    def with_outputs(self, event_id: str, outputs: list[StoredOutput]) -> "StageRecord":
        """Adds the outputs for an event, unless there are some: the first ones stand."""
        return self.model_copy(update={"outputs": {event_id: outputs, **self.outputs}})

    def with_first_charge(self, charge: FirstCharge) -> "StageRecord":
        """Adds the first charge, unless there is one."""
        return self if self.first_charge else self.model_copy(update={"first_charge": charge})


def stage_document(objects: ObjectStore, event: Event, stage: str) -> Document[StageRecord]:
    """Returns the stored `StageRecord` of the event's part."""
    return Document(objects, stage_record_key(event.tenant, event.call_id, stage, event.part), StageRecord)


class RecordedHandler(Protocol[E_contra]):
    """Stage handler that charges for its work. stage_record: of the event's part, if the caller has read it."""

    async def __call__(self, event: E_contra, stage_record: Document[StageRecord] | None = None) -> Sequence[Output]:
        """Does the work. Raises pipelines.runtime.errors."""


class IdempotentStage(Generic[E]):
    """Stage handler that returns the same outputs for the same event, whatever is killed and reconfigured.

    The outputs of the first completed run are stored, and returned for every redelivery.
    """

    def __init__(self, stage: str, work: RecordedHandler[E], objects: ObjectStore) -> None:
        """Wraps a handler. stage: the stage's name. work: the handler that a replay uses directly."""
        self._stage = stage
        self._work = work
        self._objects = objects

    async def __call__(self, event: E) -> Sequence[Output]:
        """Returns the event's stored outputs, or does the work and stores them. Raises pipelines.runtime.errors."""
        document = stage_document(self._objects, event, self._stage)
        record = await document.get()
        if record is None or event.event_id not in record.outputs:
            outputs = [
                StoredOutput.model_validate({"topic": one.topic, "event": one.event})
                for one in await self._work(event, document)
            ]
            record = await document.update(
                lambda stored: (stored or StageRecord()).with_outputs(event.event_id, outputs)
            )
        return [Output(stored.topic, stored.event) for stored in record.outputs[event.event_id]]
