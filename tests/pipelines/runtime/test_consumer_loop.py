"""The slow-stage runtime against a real log: every job ends, once, and nothing is committed before it did."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from prometheus_client import CollectorRegistry

from core.settings import KafkaSettings, RetrySettings, Settings
from pipelines.runtime import consumer_loop
from pipelines.runtime.consumer_loop import Runner
from pipelines.runtime.dead_letters import is_replayable
from pipelines.runtime.errors import PermanentError, ProviderOutageError, RetryableError
from pipelines.runtime.stage import Output, Stage
from pipelines.runtime.stall import ConsumerStalledError
from redpanda.client import Config, consumer_config
from redpanda.commit_watchdog import CommitWatchdog
from schemas.events import RetryScheduled, StageFailed, StreamEnded
from schemas.topics import Topic
from tests.support.clocks import FastClock
from tests.support.consumer_loop_lab import DEADLINE_S, FAST, Lab
from tests.support.kafka_backend import BOTH

pytestmark = pytest.mark.server


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Lab:
    """A stage with one partition, so that order is known; on the embedded log, or as the test is marked."""
    on_kafka = getattr(request, "param", "embedded") == "kafka"
    return Lab(request.getfixturevalue("real_kafka" if on_kafka else "kafka"), partitions=1)


# For what a broker has a part in: offsets, members, its silence. The rest happens in the process alone.
ON_ANY_LOG = pytest.mark.parametrize("lab", BOTH, indirect=True)


@ON_ANY_LOG
async def test_each_record_is_worked_on_once_and_then_committed(lab: Lab) -> None:
    """Five calls go through the stage; five results are on the log, and the group has committed all five.

    If the commit were missing, every restart would pay for all calls again.
    """
    calls = [f"call-{number}" for number in range(5)]
    lab.send(*calls)
    async with lab.running(FAST):
        results = await lab.events(lab.results, 5)
        await lab.until_committed(5)
    assert sorted(event.call_id for event in results) == calls
    assert sorted(lab.handled) == calls


async def test_what_a_replay_tells_is_passed_over(lab: Lab) -> None:
    """A live call's event comes behind one that a replay told. The replay does what comes after it by itself: the live
    stage must not do it again, nor let a live call wait for it, and is through with both."""
    told = StreamEnded(
        event_id="r", call_id="replayed", tenant="t", occurred_at_ms=1, stream_id="S", reason="stop", replay_id="rp"
    )
    lab.send_raw(told.model_dump_json(), "replayed")
    lab.send("live")
    async with lab.running(FAST):
        await lab.events(lab.results, 1)
        await lab.until_committed(2)
    assert lab.handled == ["live"]


async def test_the_handlers_metrics_are_served_with_the_stages() -> None:
    """Creates the runner of a stage whose handler has its own registry. The stage's metrics must be in the same
    registry: the process serves one, and otherwise nobody sees what the handler counts."""

    async def handle(event: StreamEnded) -> Sequence[Output]:
        raise AssertionError(event)

    registry = CollectorRegistry()
    stage = Stage("counted", "source", "retry", StreamEnded, handle, 1, 1, registry=registry)
    Runner(Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1")), stage)

    assert registry.get_sample_value("audiotext_stage_jobs_held", {"stage": "counted"}) == 0


async def test_a_call_that_hangs_holds_up_no_other(lab: Lab) -> None:
    """The first of six calls never gets an answer. The other five must be done while it hangs, and none of the six
    may be committed, since the first is not done: that hole is what makes a crash harmless."""
    lab.behave = lambda call, attempt: 3600 if call == "hangs" else None
    lab.send("hangs", *[f"other-{number}" for number in range(5)])
    async with lab.running(FAST, timeout_s=3600):
        assert len(await lab.events(lab.results, 5)) == 5
    assert lab.committed() == 0


@ON_ANY_LOG
async def test_what_was_in_flight_at_the_end_is_done_by_the_next_run(lab: Lab) -> None:
    """A stage is stopped in the middle of a call. The next run gets the call again and finishes it."""
    lab.behave = lambda call, attempt: 3600 if attempt == 1 else None
    lab.send("cut-short")
    async with lab.running(FAST, timeout_s=3600):
        await lab.until(lambda: lab.handled == ["cut-short"])
    async with lab.running(FAST, timeout_s=3600):
        (result,) = await lab.events(lab.results, 1)
        await lab.until_committed(1)
    assert result.call_id == "cut-short"


async def test_a_failure_is_retried_on_schedule_and_then_succeeds(lab: Lab) -> None:
    """A provider fails twice and then answers: one result, three attempts, no dead letter, all committed."""
    lab.behave = lambda call, attempt: RetryableError("503") if attempt < 3 else None
    lab.send("third-time-lucky")
    async with lab.running(FAST):
        await lab.events(lab.results, 1)
        await lab.until_committed(1)
    assert lab.handled == ["third-time-lucky"] * 3


@ON_ANY_LOG
async def test_the_retry_schedule_survives_a_restart(lab: Lab) -> None:
    """An attempt fails and the next one is due in a second; the stage is restarted in between. The second attempt
    must come, and must be counted as the second: with one delay in the schedule its failure is final.

    If the schedule were in memory only, a restarting worker would retry for ever, or never.
    """
    once = RetrySettings(delays_s=(1.0,))
    lab.behave = lambda call, attempt: RetryableError("still down")
    call = f"{lab.name}-restarted"
    lab.send(call)
    async with lab.running(once):
        await lab.until(lambda: lab.handled == [call])
        await lab.events(lab.retry, 1)
    async with lab.running(once):
        (letter,) = await lab.events(Topic.DEAD_LETTERS, 1, call)
    assert isinstance(letter, StageFailed)
    assert letter.attempts == 2
    assert lab.handled == [call] * 2


@pytest.mark.parametrize(
    ("error", "attempts", "error_class"),
    [(PermanentError("401"), 1, "permanent"), (RetryableError("503"), 3, "retry"), (KeyError("bug"), 3, "retry")],
)
async def test_what_cannot_be_done_ends_in_the_dead_letters(
    lab: Lab, error: Exception, attempts: int, error_class: str
) -> None:
    """A permanent error goes there at once, anything else when its schedule is used up; the letter says where the
    input stood and carries it, and the calls behind go on. If not, one bad call would stop all, or vanish."""
    call = f"{lab.name}-bad"
    lab.behave = lambda got, attempt: error if got == call else None
    lab.send(call, "good")
    async with lab.running(FAST):
        (letter,) = await lab.events(Topic.DEAD_LETTERS, 1, call)
        await lab.events(lab.results, 1)
        await lab.until_committed(2)
    assert isinstance(letter, StageFailed)
    assert (letter.attempts, letter.error_class) == (attempts, error_class)
    assert (letter.origin_topic, letter.origin_offset) == (lab.source, 0)
    assert json.loads(letter.payload)["call_id"] == call


async def test_what_the_log_does_not_take_ends_in_the_dead_letters(lab: Lab) -> None:
    """A call's event is so large that a record of its retry, which carries it, is beyond what the log takes. That is no
    log that is away: there is a letter at once, which says so with as much of the event as it can, and cannot be sent
    again; the call behind goes on. Tried again for ever, it would hold up its whole partition."""
    call = f"{lab.name}-large"
    lab.behave = lambda got, attempt: RetryableError("503") if got == call else None
    large = StreamEnded(
        event_id="l", call_id=call, tenant="t", occurred_at_ms=1, stream_id="S", reason='"' * 450_000, part=2
    )
    lab.send_raw(large.model_dump_json(), call)
    lab.send("good")
    async with lab.running(FAST):
        (letter,) = await lab.events(Topic.DEAD_LETTERS, 1, call)
        await lab.events(lab.results, 1)
        await lab.until_committed(2)
    assert isinstance(letter, StageFailed)
    assert (letter.error_class, letter.tenant, letter.part) == ("permanent", "t", 2)
    assert "is larger than topic" in letter.error
    assert call in letter.payload
    assert not is_replayable(letter)


async def test_an_attempt_has_a_deadline_of_its_own(lab: Lab) -> None:
    """A provider that never answers is given up after `timeout_s` and tried again: one attempt hangs, the next one
    answers. Without the deadline the call would hang for ever."""
    lab.behave = lambda call, attempt: 3600 if attempt == 1 else None
    lab.send("slow")
    async with lab.running(FAST, timeout_s=0.2):
        await lab.events(lab.results, 1)
    assert lab.handled == ["slow"] * 2


async def test_an_outage_costs_no_attempts(lab: Lab) -> None:
    """The provider is away for far more tries than the schedule has, then comes back. Every call is done and none is
    in the dead letters or on the retry topic: an outage is nobody's failure."""
    calls = [f"{lab.name}-{number}" for number in range(4)]
    tries = 0

    def behave(call: str, attempt: int) -> BaseException | None:
        nonlocal tries
        tries += 1
        return ProviderOutageError("connection refused") if tries < 10 else None

    lab.behave = behave
    lab.send(*calls)
    async with lab.running(RetrySettings(delays_s=(0.05,), outage_pause_s=0.05)):
        results = await lab.events(lab.results, 4)
        await lab.until_committed(4)
    assert sorted(event.call_id for event in results) == calls


async def test_a_record_that_is_no_event_is_put_aside(lab: Lab) -> None:
    """Something unreadable stands on the topic. It becomes a dead letter with its content, and work goes on."""
    lab.send_raw("\x00 not json", f"{lab.name}-broken")
    lab.send("good")
    async with lab.running(FAST):
        (letter,) = await lab.events(Topic.DEAD_LETTERS, 1, f"{lab.name}-broken")
        await lab.events(lab.results, 1)
    assert isinstance(letter, StageFailed)
    assert letter.error_class == "permanent"
    assert letter.payload == "\x00 not json"


async def test_no_more_jobs_run_at_once_than_allowed(lab: Lab) -> None:
    """Twenty calls, three at a time: the most that ever ran together is three. An engine that holds a gigabyte per
    call depends on it."""
    running = most = 0
    original = lab._handle

    async def counted(event: StreamEnded) -> Sequence[Output]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.02)
            return await original(event)
        finally:
            running -= 1

    lab._handle = counted  # type: ignore[method-assign]
    lab.send(*[f"call-{number}" for number in range(20)])
    async with lab.running(FAST, concurrency=3):
        await lab.events(lab.results, 20)
        await lab.until_committed(20)
    assert most == 3


class Refusing(Consumer):  # type: ignore[misc]  # confluent_kafka publishes no types
    """A consumer whose first commits fail, as while the log's broker is replaced."""

    refusals = 0

    def commit(self, *args: object, **kwargs: object) -> object:
        if self.refusals < 3:
            self.refusals += 1
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return super().commit(*args, **kwargs)


@ON_ANY_LOG
async def test_a_commit_that_failed_is_made_good(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker goes away just after a call's result was stored, and the commit fails. It is tried again although
    nothing more happens on the partition: otherwise the next start would do the call once more."""
    monkeypatch.setattr("pipelines.runtime.consumer_loop.Consumer", Refusing)
    lab.send("the-only-one")
    async with lab.running(FAST):
        await lab.events(lab.results, 1)
        await lab.until_committed(1)


@ON_ANY_LOG
async def test_a_provider_away_for_half_an_hour_costs_no_call(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour (at 240 times the speed) in which no attempt gets an answer, then all get 500, for longer than the
    schedule is, then no connection. When the provider is back every call is done; none is in the dead letters; and the
    process has polled all the time: the outage is longer than its poll interval, so it would have lost its partitions
    and got everything twice."""
    clock = FastClock(240)
    lost: list[str] = []
    monkeypatch.setattr(Runner, "_on_lost", lambda *_: lost.append("lost"))
    monkeypatch.setattr(Runner, "_on_revoke", lambda *_: lost.append("revoked"))
    monkeypatch.setattr(consumer_loop, "consumer_config", impatient)
    calls = [f"{lab.name}-{number}" for number in range(8)]

    def behave(call: str, attempt: int) -> float | BaseException | None:
        if clock.monotonic_s() > 1_800:
            return None
        if clock.monotonic_s() > 1_700:
            return ProviderOutageError("connection refused")
        return RetryableError("500") if clock.monotonic_s() > 100 else 3_600.0

    lab.behave = behave
    lab.send(*calls)
    async with lab.running(RetrySettings(), timeout_s=0.1, clock=clock, concurrency=4):
        results = await lab.events(lab.results, len(calls))
        assert clock.monotonic_s() > 1_800
        await lab.until_committed(len(calls))
        assert lost == []
    assert sorted(event.call_id for event in results) == calls
    assert lab.read_now(Topic.DEAD_LETTERS, lab.name) == []


def impatient(kafka: KafkaSettings, group: str) -> Config:
    """A consumer that is out of its group after six seconds without a poll; brokers take no less."""
    return consumer_config(kafka, group) | {"session.timeout.ms": 6_000, "max.poll.interval.ms": 6_000}


async def test_a_call_without_an_answer_delays_no_other(lab: Lab) -> None:
    """One call never gets an answer. Twenty others that come after it, one by one, each have their result within a
    second of being put on the log."""
    lab.behave = lambda call, attempt: 3600 if call == "hangs" else None
    lab.send("hangs")
    took = []
    async with lab.running(FAST, timeout_s=3600):
        await lab.until(lambda: lab.handled == ["hangs"])
        for number in range(20):
            sent = time.monotonic()
            lab.send(f"call-{number}")
            await lab.until(lambda number=number: f"call-{number}" in lab.handled)  # type: ignore[misc]  # its default
            took.append(time.monotonic() - sent)
        assert len(await lab.events(lab.results, 20)) == 20
    assert max(took) < 1


@ON_ANY_LOG
async def test_what_waits_when_its_partition_is_lost_is_not_begun(lab: Lab) -> None:
    """One call runs and another one waits for its turn when the partition goes to another process, which gets both
    again. The one that waits must not be begun here as well: that is work, perhaps money, for nothing."""
    lab.behave = lambda call, attempt: 0.5 if call == "runs" else None
    lab.send("runs", "waits")
    async with lab.running(FAST, concurrency=1) as worker:
        await lab.until(lambda: lab.handled == ["runs"] and worker._offsets.in_flight(lab.source) == 2)
        worker._on_lost(worker._consumer, worker._consumer.assignment())
        await lab.events(lab.results, 1)
        await asyncio.sleep(0.2)
    assert lab.handled == ["runs"]


async def test_a_wish_to_come_later_is_on_the_retry_topic(lab: Lab) -> None:
    """429 with Retry-After: 30 at a schedule of 0.05 s: the next attempt is due in 30 s."""
    lab.behave = lambda call, attempt: RetryableError("429", retry_after_s=30)
    lab.send("limited")
    async with lab.running(FAST):
        (again,) = await lab.events(lab.retry, 1)
    assert isinstance(again, RetryScheduled)
    assert again.due_at_ms - again.occurred_at_ms == 30_000


@ON_ANY_LOG
async def test_a_consumer_that_silently_stopped_ends_the_process(lab: Lab) -> None:
    """The consumer fetches no more, as upstream defects make it, while records come in. The stage must fail, so that
    the process is started again; without the look at its lag it would wait for ever and look well."""
    lab.send("first")
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(lab.running(FAST, stall_s=0.8))
        await lab.events(lab.results, 1)
        worker._consumer.pause(worker._consumer.assignment())
        for number in range(30):
            await asyncio.sleep(0.1)
            lab.send(f"unseen-{number}")
        with pytest.raises(ConsumerStalledError, match=lab.source):
            await stack.aclose()
    assert lab.handled == ["first"]


class _StuckInCommit:
    """The consumer, whose commits are never answered until the event is set."""

    def __init__(self, consumer: Consumer, answered: threading.Event) -> None:
        self._consumer, self._answered = consumer, answered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def commit(self, **_: object) -> None:
        assert self._answered.wait(DEADLINE_S)


async def test_a_commit_that_is_never_answered_ends_the_process(lab: Lab) -> None:
    """librdkafka waits for a coordinator that is gone while the log answers others. Somebody has to see it: polling
    waits for the commit, and the stage did nothing for two minutes before it was found from outside."""
    answered, ended = threading.Event(), threading.Event()
    lab.send("first")
    async with lab.running(FAST) as worker:
        worker._consumer = _StuckInCommit(worker._consumer, answered)
        worker._commit_watchdog = CommitWatchdog(
            lambda: True, lambda: None, timeout_s=0.3, check_interval_s=0.1, on_hang=ended.set
        )
        assert await asyncio.to_thread(ended.wait, DEADLINE_S)
        answered.set()
    assert lab.handled == ["first"]
