"""A replay's job: which stages work, what is told, and what is not begun any more."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from pipelines.replay.rerecord import RecordingRebuilder
from pipelines.replay.worker import ReplayHandler, StageHandlers
from pipelines.runtime.errors import PermanentError, RetryableError
from pipelines.runtime.stage import Output
from schemas.events import (
    AnyEvent,
    Event,
    RecordingReady,
    ReplayedPart,
    ReplayInput,
    ReplayJob,
    ReplayOverrides,
    ReplayStage,
    TranscriptReady,
)
from schemas.topics import Topic
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore
from tests.support.call_events import Call

CALL = Call("CA1")


@dataclass
class Store:
    """What is known of the replay."""

    run: tuple[int, bool] = (1, False)
    erased: bool = False

    def latest_run(self, replay_id: str) -> tuple[int, bool]:
        return self.run

    def is_erased(self, tenant: str, call_id: str) -> bool:
        return self.erased


@dataclass
class Calls:
    """The events of the call so far."""

    events: Sequence[AnyEvent] = ()

    def events_by_call(self, calls: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[AnyEvent]]:
        return {name: list(self.events) for name in calls}


@dataclass
class Stages:
    """Stages that note that they were asked. error, refusal: what transcribing and summarizing raise."""

    asked: list[str] = field(default_factory=list)
    error: Exception | None = None
    refusal: Exception | None = None

    def __call__(self, stage: ReplayStage, overrides: ReplayOverrides) -> StageHandlers:
        return StageHandlers(self.transcribe, self.summarize, self.embed)

    async def transcribe(self, event: RecordingReady) -> Sequence[Output]:
        self.asked.append("transcribe")
        if self.error:
            raise self.error
        return [
            Output(Topic.TRANSCRIPT_READY, CALL.transcript()),
            Output(Topic.USAGE_RECORDED, CALL.usage(price="1", cost="1", units=1)),
        ]

    async def summarize(self, event: TranscriptReady) -> Sequence[Output]:
        self.asked.append("summarize")
        if self.refusal:
            raise self.refusal
        return [Output(Topic.SUMMARY_READY, CALL.summary())]

    async def embed(self, event: TranscriptReady) -> Sequence[Output]:
        self.asked.append("embed")
        return [Output(Topic.EMBEDDING_READY, CALL.embedding())]


def handler(stages: Stages, store: Store | None = None) -> ReplayHandler:
    nobody = cast(RecordingRebuilder, None)  # none of these jobs begins at the audio
    return ReplayHandler(
        stages, nobody, cast(ObjectStore, None), cast(ReplayStore, store or Store()), cast(CallStore, Calls())
    )


def job(stage: ReplayStage, run: int = 1) -> ReplayJob:
    part = ReplayInput(
        recording=CALL.recording() if stage == "recording" else None,
        transcript=None if stage == "recording" else CALL.transcript(),
        note="noted before",
    )
    return ReplayJob(
        event_id=uuid.uuid4().hex,
        call_id=CALL.id,
        tenant=CALL.tenant,
        occurred_at_ms=1,
        replay_id="rp",
        stage=stage,
        run=run,
        inputs=[part],
    )


def outcome(told: Sequence[Output]) -> ReplayedPart:
    (part,) = [output.event for output in told if isinstance(output.event, ReplayedPart)]
    return part


@pytest.mark.parametrize(
    ("stage", "asked"),
    [
        ("recording", ["transcribe", "summarize", "embed"]),
        ("transcript", ["summarize", "embed"]),
        ("summary", ["summarize"]),
        ("embedding", ["embed"]),
    ],
)
async def test_from_each_stage_on(stage: ReplayStage, asked: list[str]) -> None:
    """Whatever comes after the stage is done again, and nothing before it. All that is told carries the replay's id, by
    which live stages pass it over, and what became of the part comes last: what it says is true by then."""
    stages = Stages()
    told = await handler(stages)(job(stage))
    assert stages.asked == asked
    assert {output.event.replay_id for output in told} == {"rp"}
    last: Event = told[-1].event
    assert isinstance(last, ReplayedPart)
    assert (last.outcome, last.note, last.call_id) == ("done", "noted before", CALL.id)


@pytest.mark.parametrize(
    ("run", "now", "begun"), [(1, (1, False), 1), (1, (1, True), 0), (1, (2, False), 0), (2, (1, True), 1)]
)
async def test_a_stopped_run_is_not_begun(run: int, now: tuple[int, bool], begun: int) -> None:
    """A job of a run that was stopped, or followed by another, does nothing; one of a run that is newer than what is
    known here is begun, for the stop that is known was about the one before. If it failed, stopping would not stop, or
    resuming would lose calls."""
    stages = Stages()
    await handler(stages, Store(run=now))(job("summary", run))
    assert len(stages.asked) == begun


async def test_an_erased_call_is_not_brought_back() -> None:
    """The call was erased after the plan was made: no stage sees it, and the replay says so."""
    stages = Stages()
    told = await handler(stages, Store(erased=True))(job("recording"))
    assert (stages.asked, outcome(told).outcome) == ([], "skipped")


async def test_what_was_paid_is_on_the_bill_even_if_the_next_stage_fails() -> None:
    """A provider is paid for a transcript, then the summary is refused for good: the part has failed, and its
    transcription is on the bill. Nothing else is told: the call stays as it was until all of it has been made."""
    told = await handler(Stages(refusal=PermanentError("SAFETY")))(job("recording"))
    assert [output.topic for output in told] == [Topic.USAGE_RECORDED, Topic.REPLAY_PROGRESS]
    assert (outcome(told).outcome, outcome(told).stage) == ("failed", "summarize")
    assert {output.event.replay_id for output in told} == {"rp"}


async def test_what_will_never_work_fails_by_itself() -> None:
    """Broken audio is told as failed, with the reason, and no retry; what may work later is the runtime's to retry."""
    told = await handler(Stages(error=PermanentError("the audio is broken")))(job("recording"))
    assert (outcome(told).outcome, outcome(told).note) == ("failed", "the audio is broken")
    assert outcome(told).stage == "transcribe"
    with pytest.raises(RetryableError):
        await handler(Stages(error=RetryableError("later")))(job("recording"))
