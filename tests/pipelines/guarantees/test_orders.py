"""A provider that is paid per order: what every single fault of a worker may cost, and what it may leave behind.

Each test goes through all steps of a transcription, one worker and one call for each. How many there are is found out:
the last worker comes to its end before its fault can strike.
"""

from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from core.settings import S3Settings
from pipelines.runtime.errors import PermanentError
from schemas.artifacts import Transcript
from schemas.events import Event, RecordingReady, TranscriptReady
from sinks.object_store import ObjectStore
from tests.fakes.refusals import Refusal
from tests.fakes.soniox import FakeSoniox
from tests.pipelines.guarantees.stages import DEARER, USUAL, kept_of, shape, soniox_transcriber
from tests.pipelines.guarantees.workers import Delivered, Fault, Steps, deliver, start, struck
from tests.support.ids import new_call
from tests.support.pipeline_events import recording
from tests.support.transcription_jobs import job_of

ORDERS = "POST /v1/transcriptions"
# Of a transcription. Fewer, and the tests do not watch what they should.
FEWEST_STEPS = 12
FEWEST_REQUESTS = 4


class Recordings:
    """Recordings of a minute with one sound, a call of its own each."""

    def __init__(self, objects: ObjectStore, folder: Path) -> None:
        self._objects = objects
        self._job = job_of(folder / "a.wav", [(1, 2)], [], seconds=60)

    def new(self) -> RecordingReady:
        """Another one."""
        return recording(self._objects, new_call(), self._job.audio.read_bytes(), self._job.duration_ms)


@pytest.fixture
def recordings(objects: ObjectStore, tmp_path: Path) -> Recordings:
    """Recordings in the shared object storage."""
    return Recordings(objects, tmp_path)


def ordered(server: FakeSoniox) -> int:
    """Requests so far that cost money, those that were refused included."""
    return server.requests.count(ORDERS)


def kept(server: FakeSoniox) -> tuple[int, int]:
    """Orders and files that lie at the provider."""
    return len(server.orders), len(server.files)


async def checked(objects: ObjectStore, event: Event, delivered: Delivered) -> list[str]:
    """Checks that the transcript that is published is there and right, that there is one line, and that the recording
    is the only audio. Returns the call's objects."""
    [ready] = [one.event for one in delivered.outputs or () if isinstance(one.event, TranscriptReady)]
    transcript = Transcript.model_validate_json(objects.get_verified(ready.transcript))
    assert [(turn.speaker, turn.text) for turn in transcript.segments] == [("inbound", "hello.")]
    [line] = delivered.lines
    assert (line.units, str(line.price)) == (50, "0.0100")
    kept_objects = kept_of(objects, event)
    assert sum(data.startswith((b"RIFF", b"fLaC")) for data in kept_objects.values()) == 1, "audio beside the recording"
    return shape(kept_objects)


@pytest.mark.parametrize(
    ("fault", "by_url"), [(Fault.KILL, False), (Fault.KILL, True), (Fault.LOSE, False), (Fault.FAIL, False)]
)
async def test_whatever_step_fails_one_order_one_line_and_nothing_left(
    fault: Fault,
    by_url: bool,
    *,
    soniox: FakeSoniox,
    s3: S3Settings,
    objects: ObjectStore,
    recordings: Recordings,
) -> None:
    """A worker is killed after its n-th step, or loses the answer to it, or the step fails; the event is delivered to
    another worker and, once more, to a third one, at another price. Whatever n: one request for an order, the same
    outputs from all who come to an end, the objects of a call to which nothing happened, and nothing at the provider.

    A failure means that a call is ordered twice, is charged otherwise, or leaves audio with a third party.
    """
    make, again = (soniox_transcriber(soniox, s3, pricing, by_url=by_url) for pricing in (USUAL, DEARER))
    clean = recordings.new()
    objects_of_a_call = await checked(objects, clean, await deliver(make, clean))
    for step in count(1):
        event, before, steps = recordings.new(), ordered(soniox), Steps(fault, step)
        first = await deliver(make, event, steps)
        if not steps.struck:
            break
        second, third = await deliver(make if fault is Fault.KILL else again, event), await deliver(again, event)
        where = f"{fault} at step {step}, {steps.struck}"
        assert ordered(soniox) - before == 1, where
        assert await checked(objects, event, second) == objects_of_a_call, where
        assert second.events == third.events, where
        if fault is Fault.KILL:
            assert kept(soniox) == (0, 0), where
        else:
            assert first.events == second.events, where
    assert step > FEWEST_STEPS
    await deliver(make, recordings.new())  # what could not be deleted is, with the next job
    assert kept(soniox) == (0, 0)


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.FAIL])
async def test_after_the_provider_refused_to_delete_nothing_is_left_there(
    fault: Fault, soniox: FakeSoniox, s3: S3Settings, recordings: Recordings
) -> None:
    """The provider does not delete while a worker is at a call, and the worker is killed after its n-th step, or the
    step fails. Once the event was delivered again and another call was transcribed, nothing lies there, whatever n.

    A failure means that a fault after a failed clean-up leaves audio with a third party for ever.
    """
    make = soniox_transcriber(soniox, s3)
    for step in count(1):
        event, steps = recordings.new(), Steps(fault, step)
        refusal = Refusal("DELETE /v1/transcriptions/.*", 500, "internal_error", "Sorry.", times=1_000)
        soniox.refusals[:] = [refusal]
        await deliver(make, event, steps)
        soniox.refusals.clear()
        await deliver(make, event)
        await deliver(make, recordings.new())
        assert kept(soniox) == (0, 0), f"{fault} at step {step}, {steps.struck}"
        if not steps.struck:
            break
    assert step > FEWEST_STEPS


@pytest.mark.parametrize(
    ("fault", "by_url", "of"), [(Fault.FREEZE, False, ""), (Fault.FREEZE, True, ""), (Fault.HANG, False, "Soniox.")]
)
async def test_of_two_workers_at_one_job_one_orders(
    fault: Fault,
    by_url: bool,
    of: str,
    *,
    soniox: FakeSoniox,
    s3: S3Settings,
    objects: ObjectStore,
    recordings: Recordings,
) -> None:
    """A worker freezes after its n-th step, or its n-th request begins late; the event is delivered to another worker,
    which waits for the window for ordering to end if it has to, and finishes. Then the first goes on where it was.
    Whatever n: one request for an order, the same outputs from both, the objects of a call to which nothing happened,
    and, an hour later, nothing at the provider.

    A failure means that a worker that comes back late orders again, changes a result or a charge, or leaves something.
    """
    make = soniox_transcriber(soniox, s3, by_url=by_url)
    clean = recordings.new()
    objects_of_a_call = await checked(objects, clean, await deliver(make, clean))
    for step in count(1):
        event, before, steps = recordings.new(), ordered(soniox), Steps(fault, step, of)
        zombie = start(make, event, steps)
        if not await struck(steps, zombie):
            break
        second = await deliver(make, event)
        steps.resumed.set()
        first = await zombie
        where = f"{fault} at step {step}, {steps.struck}"
        assert ordered(soniox) - before == 1, where
        assert first.events == second.events, where
        assert await checked(objects, event, second) == objects_of_a_call, where
    assert step > (FEWEST_REQUESTS if of else FEWEST_STEPS)
    soniox.age(timedelta(hours=2))
    await deliver(make, recordings.new())
    assert kept(soniox) == (0, 0)


async def test_two_workers_at_the_moment_of_ordering_order_once(
    soniox: FakeSoniox, s3: S3Settings, recordings: Recordings
) -> None:
    """A worker freezes after its n-th step before it has ordered; another one freezes just after it has. The first goes
    on where it was, while the second still stands; then the second. Whatever n: one request for an order, and the same
    outputs from both.

    A failure means that two workers can believe at the same time that the order is theirs to place.
    """
    make = soniox_transcriber(soniox, s3)
    for step in count(1):
        event, before = recordings.new(), ordered(soniox)
        one, two = Steps(Fault.FREEZE, step), Steps(Fault.FREEZE, 1, "Soniox.submit")
        first = start(make, event, one)
        assert await struck(one, first)
        second = start(make, event, two)
        await struck(two, second)
        one.resumed.set()
        outputs = (await first).events
        two.resumed.set()
        where = f"frozen at step {step}, {one.struck}"
        assert (await second).events == outputs, where
        assert ordered(soniox) - before == 1, where
        if one.struck == "Soniox.submit":
            break
    assert step > FEWEST_REQUESTS


async def test_an_order_that_the_provider_shows_late_is_not_placed_again(
    soniox: FakeSoniox, s3: S3Settings, recordings: Recordings
) -> None:
    """A worker freezes just after it has ordered. The provider does not show that order for longer than anybody waits
    for it, so that another worker claims the job, and freezes. The first one wakes up and stores the result; then the
    second one. It orders nothing, since the result is there.

    A failure means that a worker orders what is done.
    """
    event = recordings.new()
    one, two = Steps(Fault.FREEZE, 1, "Soniox.submit"), Steps(Fault.FREEZE, 1, "ObjectStore.compare_and_swap")
    first = start(soniox_transcriber(soniox, s3), event, one)
    assert await struck(one, first)
    second = start(soniox_transcriber(soniox, s3, shows_orders=False), event, two)
    assert await struck(two, second)
    one.resumed.set()
    outputs = (await first).events
    two.resumed.set()
    assert (await second).events == outputs
    assert ordered(soniox) == 1


async def test_an_upload_that_takes_longer_than_the_window_is_ordered_at_once(
    soniox: FakeSoniox, s3: S3Settings, recordings: Recordings
) -> None:
    """The upload of a long recording takes twice as long as a worker may take to order: the first attempt orders.

    A failure means that the window begins before the upload, so that a slow line has every call ordered late or never.
    """
    steps = Steps(Fault.HANG, 1, "Soniox.prepare")
    delivered = await deliver(soniox_transcriber(soniox, s3), recordings.new(), steps)
    assert steps.struck
    assert delivered.attempts == 1


async def test_what_cannot_be_read_is_no_reason_to_order_again(
    soniox: FakeSoniox, s3: S3Settings, objects: ObjectStore, recordings: Recordings
) -> None:
    """A worker is killed after its n-th step, and everything it has stored is damaged. Another worker orders nothing
    and gives up for good, so that somebody looks; before anything was stored it works as always.

    Of a call that is done all but one object is damaged, each in turn: nothing is ordered either.

    A failure means that damaged records are paid for.
    """
    make = soniox_transcriber(soniox, s3)
    for step in count(1):
        event, before, steps = recordings.new(), ordered(soniox), Steps(Fault.KILL, step)
        inputs = kept_of(objects, event)
        await deliver(make, event, steps)
        if not steps.struck:
            break
        ordered_before = ordered(soniox) - before
        stored = kept_of(objects, event).keys() - inputs.keys()
        for key in stored:
            objects.put(key, b"{", "application/json")
        where = f"killed at step {step}, {steps.struck}; damaged: {sorted(stored)}"
        if stored:
            with pytest.raises(PermanentError):
                await deliver(make, event)
            assert ordered(soniox) - before == ordered_before, where
        else:
            await deliver(make, event)
            assert ordered(soniox) - before == 1, where
    assert step > FEWEST_STEPS

    intact, before = kept_of(objects, event), ordered(soniox)
    stored = intact.keys() - inputs.keys()
    for whole in stored:
        for key in stored:
            objects.put(key, intact[key] if key == whole else b"{", "application/json")
        with suppress(PermanentError):
            await deliver(make, event)
        assert ordered(soniox) == before, f"all but {whole} is damaged"


async def test_a_full_provider_is_freed_whatever_step_the_last_worker_died_at(
    soniox: FakeSoniox, s3: S3Settings, recordings: Recordings
) -> None:
    """The provider has room for one order, which is a leftover: it could not be deleted once its result was stored. A
    worker at the next call is killed after its n-th request, and the event is delivered again: the leftover makes room
    whatever n, and in the end nothing lies at the provider.

    A failure means that a provider whose store is full stays full.
    """
    make = soniox_transcriber(soniox, s3)
    soniox.max_orders = 1
    for step in count(1):
        refusal = Refusal("DELETE /v1/transcriptions/.*", 500, "internal_error", "Sorry.", times=1_000)
        soniox.refusals[:] = [refusal]
        await deliver(make, recordings.new())
        soniox.refusals.clear()
        assert kept(soniox) == (1, 1)

        event, steps = recordings.new(), Steps(Fault.KILL, step, "Soniox.")
        await deliver(make, event, steps)
        delivered = await deliver(make, event)
        assert len(delivered.lines) == 1
        assert kept(soniox) == (0, 0), f"killed at step {step}, {steps.struck}"
        if not steps.struck:
            break
    assert step > FEWEST_REQUESTS
