"""The version that counts after a replay, and switching the versions of many calls at once. The stages, stores and
replays are real; only the log between them is left out."""

import time
import uuid
from collections.abc import Mapping

import pytest

from core.settings import ClickHouseSettings, QdrantSettings, S3Settings, Settings
from pipelines.providers.base import Transcription, TranscriptionJob
from pipelines.replay.selection import Selection
from pipelines.replay.switching import NoSuchReplayError, Switched, Target, VersionSwitcher
from pipelines.runtime.errors import PermanentError
from sinks.clickhouse.replay_projection import ReplayDoc
from tests.api.conftest import WordEmbedder
from tests.support.call_events import Call
from tests.support.replay_installation import Installation

TENANT = "acme"


@pytest.fixture
def installation(clickhouse: ClickHouseSettings, s3: S3Settings, qdrant: QdrantSettings) -> Installation:
    """Stages over the shared stores."""
    settings = Settings(clickhouse=clickhouse, s3=s3, qdrant=qdrant)
    return Installation(settings, WordEmbedder(f"words-{uuid.uuid4().hex}"))


@pytest.fixture
def calls(installation: Installation) -> list[str]:
    """Three calls that are complete."""
    names = [f"CA{uuid.uuid4().hex}" for _ in range(3)]
    for name in names:
        installation.process(TENANT, name, 60_000)
    return names


def models(installation: Installation, calls: list[str]) -> list[str]:
    """The models whose transcripts count."""
    return [installation.current_model(call, TENANT) for call in calls]


def replay(installation: Installation, replay_id: str) -> ReplayDoc:
    found = installation.replays.get_replay(replay_id, None)
    assert found is not None
    return found


def summary_of_current(installation: Installation, call: str) -> bool:
    """Whether the summary that counts was made of the transcript that counts."""
    (part,) = installation.call(call, TENANT).parts
    current = {version.of: version.transcript_id for version in part.versions if version.current}
    return current["summary"] == current["transcript"]


def test_a_replay_with_the_old_settings_makes_the_old_version_count(
    installation: Installation, calls: list[str]
) -> None:
    """Replays calls with a worse model, then with the settings they were made with. The second replay makes nothing,
    says so, and makes the old versions count again: who requests certain settings wants their result. If it failed, the
    replay would say "done" while the worse transcripts still counted."""
    worse = installation.replay(calls, model="tiny")
    assert models(installation, calls) == ["tiny"] * 3
    assert (replay(installation, worse).reused, replay(installation, worse).switched) == (0, 3)

    again = installation.replay(calls[:2])

    assert models(installation, calls) == ["base", "base", "tiny"]
    assert all(summary_of_current(installation, call) for call in calls)
    found = replay(installation, again)
    assert (found.state, found.done, found.reused, found.switched) == ("done", 2, 2, 2)
    third = replay(installation, installation.replay(calls[:2]))
    assert (third.done, third.reused, third.switched) == (2, 2, 0)


def test_a_job_that_runs_again_does_not_undo_a_choice(installation: Installation, calls: list[str]) -> None:
    """A replay makes tiny's versions; somebody switches back; then the replay's jobs run once more, as after a crash.
    The choice stays. The same with a replay that found an old result."""
    board = VersionSwitcher(installation.calls, installation.replays, installation.emit)
    for model in ("tiny", None):
        replay_id = installation.start(calls[:1], model=model)
        jobs = installation.plan(replay_id)
        installation.work(jobs)
        board.switch(Target(before=replay_id), Selection(), tenant=None)
        chosen = models(installation, calls[:1])
        installation.work(jobs)
        assert models(installation, calls[:1]) == chosen != [model or "base"]
        installation.replay(calls[:1], model="tiny")


def test_a_replay_can_keep_the_current_version(installation: Installation, calls: list[str]) -> None:
    """Replays calls beside the versions that count: those still count, for transcript and summary, in the documents of
    the API and in the views; the new ones lie beside them. Then all are switched to the replay's versions at once, and
    back."""
    beside = installation.replay(calls, model="tiny", keep_current=True)

    assert models(installation, calls) == ["base"] * 3
    (part,) = installation.call(calls[0], TENANT).parts
    assert [(one.of, one.model, one.current) for one in part.versions if one.of == "transcript"] == [
        ("transcript", "base", True),
        ("transcript", "tiny", False),
    ]
    assert sum(one.of == "summary" for one in part.versions) == 2
    assert part.transcript is not None
    assert transcript_in_views(installation, calls[0]) == {part.transcript.transcript_id}
    found = replay(installation, beside)
    assert (found.keep_current, found.done, found.switched) == (True, 3, 0)

    board = VersionSwitcher(installation.calls, installation.replays, installation.emit)
    assert board.switch(Target(replay=beside), Selection(), tenant=None) == Switched(3, 3, 3, 3)
    assert models(installation, calls) == ["tiny"] * 3
    assert board.switch(Target(replay=beside), Selection(), tenant=None) == Switched(3, 3, 0, 0)
    assert board.switch(Target(before=beside), Selection(), tenant=None) == Switched(3, 3, 3, 3)
    assert models(installation, calls) == ["base"] * 3
    assert all(summary_of_current(installation, call) for call in calls)


def next_millisecond() -> int:
    """A time after everything so far, and before everything that follows."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= now + 1:
        pass
    return now + 1


def transcript_in_views(installation: Installation, call: str) -> set[object]:
    """The transcripts of the call that the views for analysts count."""
    rows = [
        row
        for view in ("current_transcripts", "current_segments")
        for row in installation.database.query(
            f"SELECT DISTINCT transcript_id FROM {view} WHERE call_id = {{call:String}}", {"call": call}
        )
    ]
    assert len(rows) == 2
    return {row["transcript_id"] for row in rows}


def test_many_calls_are_switched_back_to_a_time(installation: Installation, calls: list[str]) -> None:
    """Replays calls twice with other models, then switches them to what counted between and before the replays. Filters
    leave calls out; a dry run only counts; the views agree. A call that began after the time stays as it is."""
    installation.replay(calls, model="tiny")
    between = next_millisecond()
    second = installation.replay(calls, model="small")
    later = f"CA{uuid.uuid4().hex}"
    installation.process(TENANT, later, 60_000)
    board = VersionSwitcher(installation.calls, installation.replays, installation.emit)

    only = Selection(call_ids=(calls[0], later))
    assert board.switch(Target(before=between), only, tenant=None, dry_run=True) == Switched(2, 2, 1, 1)
    assert models(installation, calls) == ["small"] * 3
    assert board.switch(Target(before=between), only, tenant=None) == Switched(2, 2, 1, 1)
    assert models(installation, [*calls, later]) == ["tiny", "small", "small", "base"]
    board.switch(Target(before=second), Selection(), tenant=None)
    assert models(installation, calls) == ["tiny"] * 3
    for call in calls:
        (part,) = installation.call(call, TENANT).parts
        assert part.transcript is not None
        assert transcript_in_views(installation, call) == {part.transcript.transcript_id}
    with pytest.raises(NoSuchReplayError):
        board.switch(Target(replay="rp-nothing"), Selection(), tenant=None)
    with pytest.raises(NoSuchReplayError):  # another tenant's
        board.switch(Target(replay=second), Selection(), tenant="somebody")


class Broke:
    """An engine that refuses everything for good."""

    name = "whisper"
    model = "base"

    def config(self) -> Mapping[str, object]:
        return {"parrot": self.model}

    async def transcribe(self, job: TranscriptionJob) -> Transcription:
        raise PermanentError("402 pay first")


def test_a_failed_call_that_is_replayed(installation: Installation) -> None:
    """A call could not be transcribed. While a replay is under way it shows no failure; after the replay failed it
    shows the replay's reason; resumed, none; done, it is complete. If it failed, a call would look broken while it is
    being mended, or show a reason that was dealt with."""
    name = f"CA{uuid.uuid4().hex}"
    event = installation.record(TENANT, name, 60_000)
    failed = Call(name, TENANT, event.started_at_ms).failed("transcribe", 70_000)
    installation.keep([failed.model_copy(update={"error": "401 wrong key"})])

    def shown() -> tuple[str, str | None]:
        call = installation.call(name, TENANT)
        return call.status, call.failed_reason

    assert shown() == ("failed", "401 wrong key")
    replay_id = installation.start([name])
    jobs = installation.plan(replay_id)
    assert shown() == ("recorded", None)
    installation.work(jobs, Broke())
    assert shown() == ("failed", "402 pay first")
    installation.desk.resume(replay(installation, replay_id))
    assert shown() == ("recorded", None)
    installation.work(installation.plan(replay_id))
    assert shown() == ("complete", None)
    found = replay(installation, replay_id)
    assert (found.state, found.done, found.failed, found.reused) == ("done", 1, 0, 0)
