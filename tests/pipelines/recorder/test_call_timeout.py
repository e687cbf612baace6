"""The time-outs of open calls, with real but short times."""

import queue
import time

import pytest

from pipelines.recorder.call_timeout import CallTimeouts, OpenCall
from pipelines.recorder.journal import PartId
from schemas.media import CloseReason, MediaRecord, RecordType

Proposals = queue.Queue[tuple[MediaRecord, int]]
PART = PartId("acme", "CA", 1, 3)


@pytest.fixture
def proposals() -> Proposals:
    return queue.Queue()


def closer(proposals: Proposals, *, grace_ms: int = 50, idle_timeout_ms: int = 60_000) -> CallTimeouts:
    started = CallTimeouts(
        grace_ms=grace_ms,
        idle_timeout_ms=idle_timeout_ms,
        propose=lambda record, partition: proposals.put((record, partition)),
    )
    started.start()
    return started


def test_a_call_is_closed_after_its_grace_time(proposals: Proposals) -> None:
    """Ends the last stream of a call.

    The proposal must come after the grace time, on the call's partition, and name the last known record. Otherwise a
    frame that arrives after the end would be cut off.
    """
    clock = closer(proposals)
    clock.touch(OpenCall(PART, "twilio", last_offset=7, ended=False))
    began = time.monotonic()
    clock.touch(OpenCall(PART, "twilio", last_offset=9, ended=True))
    record, partition = proposals.get(timeout=5)
    assert time.monotonic() - began >= 0.05
    assert (record.type, record.detail, record.seen, record.part) == (RecordType.CLOSE, CloseReason.ENDED, 9, 1)
    assert (record.tenant, record.call_id, record.carrier, partition) == ("acme", "CA", "twilio", 3)
    clock.stop()
    assert proposals.empty()


@pytest.mark.slow
def test_a_silent_call_is_closed_as_idle(proposals: Proposals) -> None:
    """Sends no end, as if the gateway crashed. Each record must restart the time-out."""
    clock = closer(proposals, idle_timeout_ms=2_000)
    for seen in range(4):
        clock.touch(OpenCall(PART, "twilio", last_offset=seen, ended=False))
        time.sleep(0.6)  # all together longer than a call may say nothing, each far from it on a busy machine, too
    assert proposals.empty()
    record, _ = proposals.get(timeout=5)
    assert (record.detail, record.seen) == (CloseReason.IDLE, 3)
    clock.stop()


def test_a_resumed_stream_keeps_the_call_open(proposals: Proposals) -> None:
    """Ends a stream and starts it again at once, as hold and resume do. A closed part must not be proposed again."""
    clock = closer(proposals, grace_ms=150)
    clock.touch(OpenCall(PART, "twilio", last_offset=1, ended=True))
    clock.touch(OpenCall(PART, "twilio", last_offset=2, ended=False))
    other = PartId("acme", "CB", 1, 0)
    clock.touch(OpenCall(other, "twilio", last_offset=5, ended=True))
    third = PartId("acme", "CC", 1, 0)
    clock.touch(OpenCall(third, "twilio", last_offset=6, ended=True))
    clock.forget(third)
    assert proposals.get(timeout=5)[0].call_id == "CB"
    clock.stop()
    assert proposals.empty()


def test_a_proposal_is_not_repeated_without_a_new_record(proposals: Proposals) -> None:
    """Waits after a proposal without a new record.

    The log decides about the proposal. Repeating it would flood the log of a recorder that is behind.
    """
    clock = closer(proposals, grace_ms=20)
    clock.touch(OpenCall(PART, "twilio", last_offset=1, ended=True))
    assert proposals.get(timeout=5)[0].seen == 1
    with pytest.raises(queue.Empty):
        proposals.get(timeout=0.2)
    clock.touch(OpenCall(PART, "twilio", last_offset=2, ended=True))
    assert proposals.get(timeout=5)[0].seen == 2
    clock.stop()
