"""A replay's jobs: a part goes through the same work as a live call's, from the stage asked for on.

What is told goes on the same topics under the same ids, marked with the replay, so that the live stages pass it over:
they never wait for a replay.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from core.settings import SettingsError
from pipelines.jobs import documents
from pipelines.replay.overrides import OverrideError
from pipelines.replay.rerecord import RebuildResult, RecordingRebuilder, by_partition
from pipelines.replay.selection import TRANSCRIBING
from pipelines.replay.versions import choices_of, current_ids
from pipelines.runtime.errors import PermanentError, RetryableError
from pipelines.runtime.stage import Handler, Output
from redpanda.client import LogUnavailableError
from schemas.artifacts import Manifest
from schemas.events import (
    AnyEvent,
    Event,
    RecordingReady,
    ReplayInput,
    ReplayJob,
    ReplayOverrides,
    ReplayStage,
    SummaryReady,
    TranscriptReady,
)
from schemas.ids import uuid_of
from schemas.replays import outcome, subject
from schemas.topics import Topic
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.result_versions import version_id
from sinks.object_store import ObjectStore, ObjectStoreError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_RUN_KNOWN_S = 1.0  # for how long it is believed that a replay was not stopped


@dataclass(frozen=True, slots=True)
class StageHandlers:
    """What the stages do, as one replay's settings have them."""

    transcribe: Handler[RecordingReady]
    summarize: Handler[TranscriptReady]
    embed: Handler[TranscriptReady]


class MakeHandlers(Protocol):
    """Gives the work of a replay with these overrides. Raises UserError, SettingsError. Blocks."""

    def __call__(self, stage: ReplayStage, overrides: ReplayOverrides) -> StageHandlers: ...


class ReplayHandler:
    """The work on one job. Everything in it finds what was done before, so that doing it again costs nothing."""

    def __init__(
        self,
        make_work: MakeHandlers,
        rebuilder: RecordingRebuilder,
        objects: ObjectStore,
        store: ReplayStore,
        calls: CallStore,
    ) -> None:
        self._make_work = make_work
        self._rebuilder = rebuilder
        self._objects = objects
        self._store = store
        self._calls = calls
        self._rebuilding = asyncio.Lock()  # the disk holds one group's audio at a time
        self._runs: dict[str, tuple[float, int, bool]] = {}  # by replay: looked at (monotonic s), run, stopped

    async def __call__(self, event: ReplayJob) -> Sequence[Output]:
        """What the stages tell of the parts, and what became of each. Raises pipelines.runtime.errors."""
        if await self._is_void(event):
            return ()
        if event.stage == "media":
            return await self._from_media(event)
        outputs: list[Output] = []
        for part in event.inputs:
            outputs += await self._part(event, part)
        return outputs

    async def _part(self, job: ReplayJob, part: ReplayInput) -> list[Output]:
        about = subject(part)
        if await _asked(self._store.is_erased, about.tenant, about.call_id):
            return [_outcome(job, about, "skipped", "the call was erased")]
        name = (about.tenant, about.call_id)
        known = (await _asked(self._calls.events_by_call, [name])).get(name, [])
        told: list[Output] = []
        try:
            work = await asyncio.to_thread(self._make_work, job.stage, job.overrides)
            await _chain(work, job.stage, part, told)
        except (PermanentError, SettingsError, OverrideError) as error:
            # What was paid is on the bill; what was made is told when all of it is.
            lines = [_marked(one, job.replay_id) for one in told if one.topic == Topic.USAGE_RECORDED]
            return [*lines, _outcome(job, about, "failed", str(error), stage=_working(job.stage, told))]
        outputs = [_marked(_aside(one) if job.keep_current else one, job.replay_id) for one in told]
        return [*outputs, *_results(job, part, [event for event in known if event.part == about.part], outputs)]

    async def _from_media(self, job: ReplayJob) -> Sequence[Output]:
        """Makes the recordings again; what comes after them is a job for each part."""
        outputs: list[Output] = []
        known: list[tuple[RecordingReady, Manifest]] = []
        for part in job.inputs:
            assert part.recording is not None
            try:
                known.append((part.recording, await documents.fetch(self._objects, part.recording.manifest, Manifest)))
            except PermanentError as error:
                outputs.append(_outcome(job, part.recording, "failed", str(error)))
        made = await self._rebuilt(known)
        for recording, _ in known:
            rebuilt = made[recording.event_id]
            if rebuilt.same is False:
                outputs.append(_outcome(job, recording, "failed", rebuilt.note))
                continue
            if rebuilt.same:
                outputs.append(_marked(Output(Topic.RECORDING_READY, recording), job.replay_id))
            following = ReplayInput(recording=recording, note=rebuilt.note)
            outputs.append(Output(Topic.REPLAY_JOBS, _following(job, following, recording)))
        return outputs

    async def _rebuilt(self, parts: Sequence[tuple[RecordingReady, Manifest]]) -> Mapping[str, RebuildResult]:
        cancelled = threading.Event()
        made: dict[str, RebuildResult] = {}
        try:
            async with self._rebuilding:
                for group in by_partition(parts).values():
                    made |= await asyncio.to_thread(self._rebuilder.rebuild, group, cancelled)
        except (ObjectStoreError, LogUnavailableError) as error:
            raise RetryableError(str(error)) from error
        finally:
            cancelled.set()  # the thread ends soon after whoever waited for it
        return made

    async def _is_void(self, job: ReplayJob) -> bool:
        """Whether the job's run has been stopped. A stop that is not known here yet comes a moment later."""
        now = time.monotonic()
        looked, run, stopped = self._runs.get(job.replay_id, (0.0, 0, False))
        if now - looked > _RUN_KNOWN_S or run == 0:
            run, stopped = await _asked(self._store.latest_run, job.replay_id)
            self._runs[job.replay_id] = (now, run, stopped)
        return job.run < run or (job.run == run and stopped)


async def _chain(work: StageHandlers, stage: ReplayStage, part: ReplayInput, told: list[Output]) -> None:
    """Adds the stages' outputs for a part, from the one asked for on."""
    transcript = part.transcript
    if part.recording is not None:
        told.extend(await work.transcribe(part.recording))
        transcript = next(output.event for output in told if isinstance(output.event, TranscriptReady))
    assert transcript is not None  # a part has either
    if stage != "embedding":
        told.extend(await work.summarize(transcript))
    if stage != "summary":
        told.extend(await work.embed(transcript))


def _working(stage: ReplayStage, told: Sequence[Output]) -> str:
    """The live stage whose work has not been told of yet."""
    topics = {output.topic for output in told}
    if stage in TRANSCRIBING and Topic.TRANSCRIPT_READY not in topics:
        return "transcribe"
    return "summarize" if stage != "embedding" and Topic.SUMMARY_READY not in topics else "embed"


def _results(
    job: ReplayJob, part: ReplayInput, known: Sequence[AnyEvent], outputs: Sequence[Output]
) -> Sequence[Output]:
    """Which versions the part has now and which of them count, for a part that is done. known: its events so far."""
    now_ms = time.time_ns() // 1_000_000
    made = [one.event for one in outputs if isinstance(one.event, (TranscriptReady, SummaryReady))]
    choices = [] if job.keep_current else choices_of(job.replay_id, known, made, now_ms)
    before = {event.event_id for event in known if event.replay_id != job.replay_id}
    ready = {one.event.event_id for one in outputs if one.topic != Topic.USAGE_RECORDED}
    summaries = [version_id(event) for event in made if isinstance(event, SummaryReady)]
    transcripts = [event.transcript_id for event in (*made, *([part.transcript] if part.transcript else ()))]
    done = _outcome(
        job,
        subject(part),
        "done",
        part.note,
        transcript_id=transcripts[0],
        summary_id=summaries[0] if summaries else "",
        reused=ready <= before,
        switched=current_ids(known) != current_ids([*known, *made, *choices]),
    )
    return [*(Output(Topic.CALL_EVENTS, choice) for choice in choices), done]


def _aside(output: Output) -> Output:
    """A result that leaves the version that counts as it is."""
    if isinstance(output.event, (TranscriptReady, SummaryReady)):
        return Output(output.topic, output.event.model_copy(update={"keep_current": True}))
    return output


def _marked(output: Output, replay_id: str) -> Output:
    return Output(output.topic, output.event.model_copy(update={"replay_id": replay_id}))


def _outcome(job: ReplayJob, about: Event, what: str, note: str, **more: str | bool) -> Output:
    now_ms = time.time_ns() // 1_000_000
    part = outcome(
        job.replay_id, about.tenant, about.call_id, about.part, now_ms, outcome=what, note=note, run=job.run, **more
    )
    return Output(Topic.REPLAY_PROGRESS, part)


def _following(job: ReplayJob, part: ReplayInput, recording: RecordingReady) -> ReplayJob:
    return job.model_copy(
        update={
            "event_id": uuid_of(job.event_id, recording.event_id),
            "call_id": recording.call_id,
            "tenant": recording.tenant,
            "part": recording.part,
            "stage": "recording",
            "inputs": [part],
        }
    )


async def _asked(ask: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The store's answer. Raises RetryableError if it is away."""
    try:
        return await asyncio.to_thread(ask, *args, **kwargs)
    except StoreUnavailableError as error:
        raise RetryableError(str(error)) from error
