"""A provider whose answer to a request is the result: what is charged, and how often it is asked, whatever step fails.

Nothing can be asked for after a crash, so a worker that is killed between the answer and its result costs one request
more. Everything else must cost none.
"""

from itertools import count
from pathlib import Path

import pytest

from core.settings import S3Settings
from schemas.artifacts import Transcript
from schemas.events import RecordingReady, TranscriptReady, UsageRecorded
from sinks.object_store import ObjectStore
from tests.fakes.openai import FakeOpenAi
from tests.pipelines.guarantees.stages import DEARER, USUAL, kept_of, openai_transcriber, shape
from tests.pipelines.guarantees.workers import Delivered, Fault, Steps, deliver, start, struck
from tests.support.ids import new_call
from tests.support.pipeline_events import recording
from tests.support.transcription_jobs import job_of

FEWEST_STEPS = 8


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    """A minute with one sound of a second, which is all that is sent and counted."""
    return job_of(tmp_path / "a.wav", [(1, 2)], [], seconds=60).audio.read_bytes()


def new_recording(objects: ObjectStore, wav: bytes) -> RecordingReady:
    """A recording of a call of its own."""
    return recording(objects, new_call(), wav, 60_000)


def charged(line: UsageRecorded) -> tuple[object, ...]:
    """What a ledger line charges, to the customer and to us."""
    return line.units, line.price, line.provider_cost, line.provider_ms, line.currency


def ready_of(delivered: Delivered) -> TranscriptReady:
    """The transcript's event among the outputs."""
    [ready] = [one.event for one in delivered.outputs or () if isinstance(one.event, TranscriptReady)]
    return ready


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.LOSE, Fault.FAIL])
async def test_whatever_step_fails_the_charge_is_what_the_provider_counted(
    fault: Fault, openai: FakeOpenAi, s3: S3Settings, objects: ObjectStore, wav: bytes
) -> None:
    """A worker is killed after its n-th step, or loses the answer to it, or the step fails; the event is delivered to
    another one, and to a third one at other prices. Whatever n, the line is that of a call to which nothing happened,
    with the audio that the server counted, which nobody can ask for later; the objects, too. A fault that leaves the
    worker alive costs no second request unless it hits the request itself, and a kill costs one more at most.

    A failure means that the bill depends on what crashed when, or that audio is paid for twice.
    """
    make, again = (openai_transcriber(openai, s3, pricing) for pricing in (USUAL, DEARER))
    clean = new_recording(objects, wav)
    delivered = await deliver(make, clean)
    [line] = delivered.lines
    objects_of_a_call = shape(kept_of(objects, clean))
    assert line.provider_ms is not None
    assert line.provider_ms < line.duration_ms
    for step in count(1):
        event, before, steps = new_recording(objects, wav), openai.asked.total(), Steps(fault, step)
        await deliver(make, event, steps)
        if not steps.struck:
            break
        second, third = await deliver(make, event), await deliver(again, event)
        where = f"{fault} at step {step}, {steps.struck}"
        may_repeat = fault is Fault.KILL or (fault is Fault.LOSE and steps.struck == "OpenAi.transcribe")
        assert openai.asked.total() - before <= (2 if may_repeat else 1), where
        assert [charged(one) for one in second.lines] == [charged(line)], where
        assert third.events == second.events, where
        assert Transcript.model_validate_json(objects.get_verified(ready_of(second).transcript)).segments, where
        assert shape(kept_of(objects, event)) == objects_of_a_call, where
    assert step > FEWEST_STEPS


async def test_of_two_workers_at_one_job_the_first_result_and_charge_stand(
    openai: FakeOpenAi, s3: S3Settings, objects: ObjectStore, wav: bytes
) -> None:
    """A worker freezes after its n-th step, another one transcribes the recording at another price, and finishes; then
    the first goes on where it was. Whatever n, both tell the same, what they tell of is there to the byte, and it stays
    when the first comes back.

    A failure means that a transcript changes after its event was published, so that its SHA-256 never matches again, or
    that a call has two prices.
    """
    make, other = (openai_transcriber(openai, s3, pricing) for pricing in (USUAL, DEARER))
    for step in count(1):
        event, steps = new_recording(objects, wav), Steps(Fault.FREEZE, step)
        zombie = start(make, event, steps)
        if not await struck(steps, zombie):
            break
        second = await deliver(other, event)
        kept = kept_of(objects, event)
        steps.resumed.set()
        first = await zombie
        where = f"frozen at step {step}, {steps.struck}"
        assert first.events == second.events, where
        assert len(first.lines) == 1, where
        assert objects.get_verified(ready_of(first).transcript), where
        assert kept_of(objects, event) == kept, where
    assert step > FEWEST_STEPS
