"""Runs the jobs of replays: a part goes through the same work as a live call, from the requested stage on.

Results are published on the same topics with the same ids, marked with the replay, so that the live stages skip them
and never wait for a replay.
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
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.clickhouse.result_versions import version_id
from sinks.object_store import ObjectStore, ObjectStoreError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_RUN_CACHE_S = 1.0  # a replay's state is queried again after this time


@dataclass(frozen=True, slots=True)
class StageHandlers:
    """Handlers of the stages with one replay's settings."""

    transcribe: Handler[RecordingReady]
    summarize: Handler[TranscriptReady]
    embed: Handler[TranscriptReady]


class MakeHandlers(Protocol):
    """Returns the handlers of a replay with these overrides. Raises UserError, SettingsError. Blocking."""

    def __call__(self, stage: ReplayStage, overrides: ReplayOverrides) -> StageHandlers:
        """Returns the handlers."""
        ...


class ReplayHandler:
    """Handler of jobs. Each step finds existing results, so that a repeated job costs nothing."""

    def __init__(
        self,
        make_handlers: MakeHandlers,
        rebuilder: RecordingRebuilder,
        objects: ObjectStore,
        store: ReplayStore,
        calls: CallStore,
    ) -> None:
        self._make_handlers = make_handlers
        self._rebuilder = rebuilder
        self._objects = objects
        self._store = store
        self._calls = calls
        self._rebuilding = asyncio.Lock()  # the disk holds one group's audio at a time
        self._runs: dict[str, tuple[float, int, bool]] = {}  # by replay: time of the query (monotonic s), run, stopped

    async def __call__(self, event: ReplayJob) -> Sequence[Output]:
        """Returns the stages' outputs for the parts, and the outcome of each part. Raises pipelines.runtime.errors."""
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
        if await _query(self._store.is_erased, about.tenant, about.call_id):
            return [_outcome(job, about, "skipped", "the call was erased")]
        name = (about.tenant, about.call_id)
        known = (await _query(self._calls.events_by_call, [name])).get(name, [])
        made: list[Output] = []
        try:
            handlers = await asyncio.to_thread(self._make_handlers, job.stage, job.overrides)
            await _chain(handlers, job.stage, part, made)
        except (PermanentError, SettingsError, OverrideError) as error:
            # Publishes the ledger lines of paid work; results are published only when all of them are complete.
            lines = [_marked(one, job.replay_id) for one in made if one.topic == Topic.USAGE_RECORDED]
            return [*lines, _outcome(job, about, "failed", str(error), stage=_failed_stage(job.stage, made))]
        outputs = [_marked(_keeping_current(one) if job.keep_current else one, job.replay_id) for one in made]
        return [*outputs, *_results(job, part, [event for event in known if event.part == about.part], outputs)]

    async def _from_media(self, job: ReplayJob) -> Sequence[Output]:
        """Rebuilds the recordings and returns a job for each part, which runs the later stages."""
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
            cancelled.set()  # if the task is cancelled, the thread ends soon as well
        return made

    async def _is_void(self, job: ReplayJob) -> bool:
        """True if the job's run is stopped. A stop takes effect when it is stored, a moment later."""
        now = time.monotonic()
        queried, run, stopped = self._runs.get(job.replay_id, (0.0, 0, False))
        if now - queried > _RUN_CACHE_S or run == 0:
            run, stopped = await _query(self._store.latest_run, job.replay_id)
            self._runs[job.replay_id] = (now, run, stopped)
        return job.run < run or (job.run == run and stopped)


async def _chain(handlers: StageHandlers, stage: ReplayStage, part: ReplayInput, made: list[Output]) -> None:
    """Appends the stages' outputs for a part, from the requested stage on."""
    transcript = part.transcript
    if part.recording is not None:
        made.extend(await handlers.transcribe(part.recording))
        transcript = next(output.event for output in made if isinstance(output.event, TranscriptReady))
    assert transcript is not None  # an input has a recording or a transcript
    if stage != "embedding":
        made.extend(await handlers.summarize(transcript))
    if stage != "summary":
        made.extend(await handlers.embed(transcript))


def _failed_stage(stage: ReplayStage, made: Sequence[Output]) -> str:
    """Returns the live stage that has no output yet."""
    topics = {output.topic for output in made}
    if stage in TRANSCRIBING and Topic.TRANSCRIPT_READY not in topics:
        return "transcribe"
    return "summarize" if stage != "embedding" and Topic.SUMMARY_READY not in topics else "embed"


def _results(
    job: ReplayJob, part: ReplayInput, known: Sequence[AnyEvent], outputs: Sequence[Output]
) -> Sequence[Output]:
    """Returns the outcome of a done part and the events that make its versions current. known: its events so far."""
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


def _keeping_current(output: Output) -> Output:
    """Returns the output, marked so that it does not become the current version."""
    if isinstance(output.event, (TranscriptReady, SummaryReady)):
        return Output(output.topic, output.event.model_copy(update={"keep_current": True}))
    return output


def _marked(output: Output, replay_id: str) -> Output:
    return Output(output.topic, output.event.model_copy(update={"replay_id": replay_id}))


def _outcome(job: ReplayJob, about: Event, result: str, note: str, **more: str | bool) -> Output:
    now_ms = time.time_ns() // 1_000_000
    part = outcome(
        job.replay_id, about.tenant, about.call_id, about.part, now_ms, outcome=result, note=note, run=job.run, **more
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


async def _query(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns the result of a blocking query. Raises RetryableError if the store is unavailable."""
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except StoreUnavailableError as error:
        raise RetryableError(str(error)) from error
