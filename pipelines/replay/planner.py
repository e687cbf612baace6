"""Creates the jobs of a replay from its plan: replay.commands → replay.jobs."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence

from pipelines.jobs import documents
from pipelines.replay.selection import TRANSCRIBING
from pipelines.runtime.errors import PermanentError
from pipelines.runtime.stage import Output
from redpanda.client import EventProducer
from schemas.artifacts import Manifest, PlannedPart, ReplayPlan
from schemas.events import AnyEvent, Event, RecordingReady, ReplayCommand, ReplayedPart, ReplayInput, ReplayJob
from schemas.ids import uuid_of
from schemas.replays import outcome, subject
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.result_versions import current_transcript
from sinks.object_store import ObjectStore

logger = logging.getLogger(__name__)

_PAGE = 200  # parts whose events are queried at once
# Parts whose audio is close together on the log form one job and are read in one pass. The limits bound the disk space.
_JOB_PARTS = 32
_JOB_MS = 2 * 3_600_000
_JOB_BYTES = 256 * 1024  # of the inputs' JSON: a job is one record on the log


class PlanHandler:
    """Handler of commands: publishes jobs for every part that is not finished.

    If a command is processed twice, a part has two jobs, of which the second finds everything done.
    """

    def __init__(self, calls: CallStore, replays: ReplayStore, objects: ObjectStore, producer: EventProducer) -> None:
        self._calls = calls
        self._replays = replays
        self._objects = objects
        self._producer = producer

    async def __call__(self, event: ReplayCommand) -> Sequence[Output]:
        """Publishes the jobs itself, page by page, since there may be many. Raises pipelines.runtime.errors."""
        if event.action == "stop":
            return ()
        plan = await documents.fetch(self._objects, event.plan, ReplayPlan)
        finished = await asyncio.to_thread(self._finished, event) if event.action == "resume" else frozenset()
        parts = [part for part in plan.parts if part not in finished]
        for start in range(0, len(parts), _PAGE):
            page = parts[start : start + _PAGE]
            calls = list({(part.tenant, part.call_id) for part in page})
            events = await asyncio.to_thread(self._calls.events_by_call, calls)
            inputs, gone = _inputs(event, page, events)
            if event.stage == "media":
                jobs = [_job(event, group) for group in await self._grouped(inputs)]
            else:
                jobs = [_job(event, [one]) for one in inputs]
            # Publishes `begun` before the jobs, since a job may be done a moment later.
            await self._producer.send_async(Topic.REPLAY_PROGRESS, [*gone, *_begun(event, inputs)])
            await self._producer.send_async(Topic.REPLAY_JOBS, jobs)
        logger.info("replay %s, run %d: %d parts from %s", event.replay_id, event.run, len(parts), event.stage)
        return ()

    def _finished(self, event: ReplayCommand) -> frozenset[PlannedPart]:
        return frozenset(
            PlannedPart(tenant=part.tenant, call_id=part.call_id, part=part.part)
            for part in self._replays.finished_parts(event.replay_id)
            if part.outcome != "failed"
        )

    async def _grouped(self, inputs: Iterable[ReplayInput]) -> list[list[ReplayInput]]:
        """Returns the parts in groups whose audio is close together on the log."""
        placed: list[tuple[int, int, ReplayInput]] = []
        for one in inputs:
            assert one.recording is not None  # every input of stage `media` has a recording
            try:
                manifest = await documents.fetch(self._objects, one.recording.manifest, Manifest)
            except PermanentError:  # the job will report the error
                placed.append((-1, -1, one))
            else:
                placed.append((manifest.partition, manifest.first_offset, one))
        return list(_groups(sorted(placed, key=lambda place: place[:2])))


def _inputs(
    command: ReplayCommand, parts: Iterable[PlannedPart], by_call: dict[tuple[str, str], list[AnyEvent]]
) -> tuple[list[ReplayInput], list[ReplayedPart]]:
    """Returns the inputs of the parts' jobs, and the parts that are gone since the replay was requested."""
    inputs: list[ReplayInput] = []
    gone: list[ReplayedPart] = []
    for part in parts:
        events = [event for event in by_call.get((part.tenant, part.call_id), ()) if event.part == part.part]
        recordings = [event for event in events if isinstance(event, RecordingReady)]
        one = ReplayInput(
            recording=recordings[-1] if recordings and command.stage in TRANSCRIBING else None,
            transcript=None if command.stage in TRANSCRIBING else current_transcript(events),
        )
        if one.recording or one.transcript:
            inputs.append(one)
        else:
            now = time.time_ns() // 1_000_000
            note = "the call is gone"
            gone.append(
                outcome(command.replay_id, part.tenant, part.call_id, part.part, now, outcome="skipped", note=note)
            )
    return inputs, gone


def _begun(command: ReplayCommand, inputs: Iterable[ReplayInput]) -> list[ReplayedPart]:
    """Returns the `begun` events of the parts that this run of the replay will process."""
    return [
        outcome(
            command.replay_id,
            about.tenant,
            about.call_id,
            about.part,
            command.occurred_at_ms,
            outcome="begun",
            run=command.run,
        )
        for about in map(subject, inputs)
    ]


def _groups(placed: Iterable[tuple[int, int, ReplayInput]]) -> Iterator[list[ReplayInput]]:
    group: list[ReplayInput] = []
    duration_ms, size, of_partition = 0, 0, -1
    for partition, _, one in placed:
        length_ms = one.recording.duration_ms if one.recording else 0
        length = len(one.model_dump_json())
        full = len(group) >= _JOB_PARTS or duration_ms + length_ms > _JOB_MS or size + length > _JOB_BYTES
        if group and (full or partition != of_partition):
            yield group
            group, duration_ms, size = [], 0, 0
        group.append(one)
        duration_ms, size, of_partition = duration_ms + length_ms, size + length, partition
    if group:
        yield group


def _job(command: ReplayCommand, inputs: Sequence[ReplayInput]) -> Event:
    """Returns the job for these inputs. Its key on the log is the first part's call."""
    first = subject(inputs[0])
    return ReplayJob(
        event_id=uuid_of(
            "replay.job", command.replay_id, command.run, command.stage, first.tenant, first.call_id, first.part
        ),
        call_id=first.call_id,
        tenant=first.tenant,
        part=first.part,
        occurred_at_ms=command.occurred_at_ms,
        replay_id=command.replay_id,
        stage=command.stage,
        overrides=command.overrides,
        run=command.run,
        inputs=list(inputs),
        keep_current=command.keep_current,
    )
