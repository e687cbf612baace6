"""Runs one slow stage: Kafka on one side, a coroutine per job on the other.

A consumer that waits for a provider inside its poll loop is thrown out of its group, and one slow call blocks all
behind it. Here polling never waits: jobs run as tasks, at most `stage.concurrency` at a time; what else was read
waits in memory (bounded: beyond that the partitions are paused, while polling goes on); offsets are committed up to
the first unfinished record (pipelines.runtime.offsets).

Every job ends in one of three ways, each durable on the log before its offset counts as done: its outputs, a record
on the stage's retry topic, or a dead letter. A crash at any line delivers the job again.
"""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic
from weakref import WeakValueDictionary

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pydantic import ValidationError

from core import process
from core.clock import Clock, SystemClock
from core.settings import RetrySettings, Settings
from pipelines.runtime.circuit_breaker import CircuitBreaker
from pipelines.runtime.errors import PermanentError, ProviderOutageError, StageError
from pipelines.runtime.job_attempt import JobAttempt, job_of
from pipelines.runtime.metrics import StageMetrics
from pipelines.runtime.offsets import OffsetTracker
from pipelines.runtime.rate_limiter import SlidingWindowLimiter
from pipelines.runtime.retry import GiveUp, decide, describe
from pipelines.runtime.stage import E, Output, Stage
from pipelines.runtime.stall import ConsumerStalledError, Progress, StallDetector
from redpanda.client import EventProducer, EventTooLargeError, LogUnavailableError, consumer_config
from redpanda.commit_watchdog import CommitWatchdog
from schemas.topics import Topic

log = logging.getLogger(__name__)

_POLL_S = 0.1  # also how long a finished job may wait for its commit
_MAX_WAITING = 2_000  # jobs on the retry schedule held in memory; their records are small
# Records read ahead: per job that may run, and at least. After a pause the client needs up to a second to fetch again,
# so a few jobs that hang or are on their way to the log must not be enough for one.
_PREFETCH = 4
_LEAST_AHEAD = 64
_STALL_S = 120.0  # a consumer that gets nothing for so long, while the log grows, has stopped
_WATCH_TIMEOUT_S = 2.0  # of one question to the log about that; polling waits for it


def run_stage(settings: Settings, *stages: Stage[Any]) -> None:
    """Runs the stages until SIGTERM or SIGINT; the first one's figures are served. Raises LogUnavailableError if no log
    is configured.
    Ends the process, with exit code 1 if the consumer has stopped and only a new process helps."""
    asyncio.run(_run_until_signal(settings, stages))


async def _run_until_signal(settings: Settings, stages: Sequence[Stage[Any]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    code = 0
    try:
        silent = settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"port": None})})
        runners = [Runner(silent if number else settings, stage) for number, stage in enumerate(stages)]
        runs = [asyncio.create_task(runner.run(stop)) for runner in runners]
        ended, _ = await asyncio.wait(runs, return_when=asyncio.FIRST_EXCEPTION)
        for run in ended:
            run.result()
    except ConsumerStalledError as error:
        log.critical("%s; this process ends, so that another one starts", error)
        code = 1
    # The loop would wait for threads at its end. What they do is not committed and will be done again.
    process.exit_now(code)


@dataclass(frozen=True, slots=True)
class _RecordPosition:
    """Where a record stands on the log, and under which assignment it was read."""

    topic: str
    partition: int
    offset: int
    generation: int


class PartitionRevokedError(Exception):
    """The job's partition went to another process, which does the job."""


class Runner(Generic[E]):
    """One stage in one process. `run` it once."""

    def __init__(
        self, settings: Settings, stage: Stage[E], *, clock: Clock | None = None, stall_s: float = _STALL_S
    ) -> None:
        self._metrics = StageMetrics(stage.name)
        self._serve = settings.metrics
        self._stage = stage
        self._retry: RetrySettings = settings.retry
        self._clock = clock or SystemClock()
        self._consumer = Consumer(consumer_config(settings.kafka, stage.name))
        self._producer = EventProducer(settings.kafka)
        self._offsets = OffsetTracker()
        # The tracker is changed by rebalance callbacks in the polling thread and by jobs in the loop's thread.
        self._lock = threading.Lock()
        self._slots = asyncio.Semaphore(stage.concurrency)
        self._gate = CircuitBreaker(settings.retry.outage_pause_s, self._clock)
        self._rate = SlidingWindowLimiter(stage.per_minute, self._clock)
        self._stall = StallDetector(stall_s)
        self._watch_every_s = stall_s / 4
        self._watched_s = time.monotonic()
        self._calls: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._paused: frozenset[str] = frozenset()
        self._patience = CommitWatchdog.for_log(settings.kafka, self._metrics.heartbeat.beat)
        self._metrics.watch(held=lambda: len(self._tasks), provider_away=lambda: self._gate.closed)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; what is in flight then is left to the next run."""
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        # One thread for all consumer calls: librdkafka runs the rebalance callbacks in it.
        with ThreadPoolExecutor(1, thread_name_prefix="poll") as poller:
            in_poller = partial(loop.run_in_executor, poller)
            self._consumer.subscribe(
                [self._stage.source, self._stage.retry],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            self._metrics.serve(self._serve, self._consumer, [self._stage.source, self._stage.retry])
            log.info("%s: waiting for work on %s", self._stage.name, self._stage.source)
            try:
                while not stop.is_set() and not self._failed.done():
                    message = await in_poller(self._poll)
                    if message is not None:
                        self._receive(message)
                if self._failed.done():
                    self._failed.result()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await in_poller(self._close)

    # In the polling thread

    def _poll(self) -> Message | None:
        self._commit()
        self._pause_what_is_full()
        self._watch()
        self._metrics.heartbeat.beat()  # each of these may have waited for a log that is away
        message = self._consumer.poll(_POLL_S)
        self._metrics.record_poll(message)
        if message is None:
            return None
        error = message.error()
        if error is None:
            return message
        if error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise LogUnavailableError(
                f"{self._stage.name} cannot read from the log: {error.str()}; "
                "are the topics there? `audiotext topics apply` creates them"
            )
        log.warning("%s: the log says: %s", self._stage.name, error.str())
        return None

    def _commit(self) -> None:
        with self._lock:
            positions = self._offsets.take_committable()
        refused = self._commit_positions(positions)
        with self._lock:
            for topic, number in refused:
                self._offsets.not_committed(topic, number)

    def _commit_positions(self, positions: dict[tuple[str, int], int]) -> list[tuple[str, int]]:
        """Commits, and gives the partitions for which the log did not take it: until it does, a crash only repeats
        finished work."""
        if not positions:
            return []
        offsets = [TopicPartition(topic, number, position) for (topic, number), position in positions.items()]
        try:
            with self._patience:
                committed = self._consumer.commit(offsets=offsets, asynchronous=False) or []
        except KafkaException as error:
            log.warning("%s: offsets not committed: %s", self._stage.name, error)
            return list(positions)
        refused = [place for place in committed if place.error is not None]
        for place in refused:
            log.warning("%s: offset not committed: %s", self._stage.name, place)
        return [(place.topic, place.partition) for place in refused]

    def _pause_what_is_full(self) -> None:
        """Stops fetching from a topic while enough of it is in memory."""
        limits = {
            self._stage.source: max(self._stage.concurrency * _PREFETCH, _LEAST_AHEAD),
            self._stage.retry: _MAX_WAITING,
        }
        with self._lock:
            full = frozenset(topic for topic, limit in limits.items() if self._offsets.in_flight(topic) >= limit)
        if full == self._paused:
            return
        assigned = self._consumer.assignment()
        if stopping := [place for place in assigned if place.topic in full - self._paused]:
            self._consumer.pause(stopping)
        if going_on := [place for place in assigned if place.topic in self._paused - full]:
            self._consumer.resume(going_on)
        self._paused = full

    def _watch(self) -> None:
        """Looks now and then whether the consumer still gets what is there. Raises ConsumerStalledError."""
        now_s = time.monotonic()
        if now_s - self._watched_s < self._watch_every_s:
            return
        self._watched_s = now_s
        try:
            seen = self._progress()
        except KafkaException as error:
            log.debug("%s: the log does not say how far it goes: %s", self._stage.name, error)
            seen = {}
        if stalled := self._stall.observe(now_s, seen):
            places = ", ".join(f"{topic}[{number}]" for topic, number in stalled)
            raise ConsumerStalledError(f"{self._stage.name} gets nothing from {places} although the log grows")

    def _progress(self) -> dict[tuple[str, int], Progress]:
        """How far each partition is that is being read; nothing if the log does not say. Raises KafkaException."""
        found = {}
        for place in self._consumer.position(self._consumer.assignment()):
            if place.topic in self._paused:
                continue
            # Before its first record a partition has no position: 0 stands still as well.
            bounds = self._consumer.get_watermark_offsets(place, _WATCH_TIMEOUT_S, cached=False)
            if bounds is None:
                return {}
            found[place.topic, place.partition] = Progress(max(0, place.offset), bounds[1])
        return found

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with self._lock:
            for place in partitions:
                self._offsets.assign(place.topic, place.partition)
        self._paused = frozenset()  # an assignment starts unpaused

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit_positions(self._drop(partitions))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(partitions)  # somebody else owns them already: nothing to commit

    def _drop(self, partitions: list[TopicPartition]) -> dict[tuple[str, int], int]:
        with self._lock:
            found = {
                (place.topic, place.partition): self._offsets.revoke(place.topic, place.partition)
                for place in partitions
            }
        return {key: position for key, position in found.items() if position is not None}

    def _close(self) -> None:
        self._commit()
        self._metrics.stop()
        self._consumer.close()
        self._producer.close()
        self._patience.stop()

    # In the loop's thread

    def _receive(self, message: Message) -> None:
        topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        with self._lock:
            generation = self._offsets.start(topic, number, offset)
        if generation is None:
            return
        task = asyncio.create_task(self._settle(_RecordPosition(topic, number, offset, generation), message))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        """A task may only end well or be cancelled; anything else is a defect or a dead log, and ends the process
        with nothing committed that is not done."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and self._failed and not self._failed.done():
            self._failed.set_exception(error)

    async def _settle(self, place: _RecordPosition, message: Message) -> None:
        """Takes one record to its end: outputs, retry or dead letter on the log, then its offset is done."""
        job = job_of(
            self._stage.name,
            self._stage.retry,
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            value=_text(message.value()),
        )
        try:
            outcome, done = await self._attempt(job, place, key=_text(message.key()))
        except PartitionRevokedError:
            return
        try:
            await self._send(outcome)
        except EventTooLargeError as error:
            event = self._stage.event_type.model_validate_json(job.payload)
            await self._send([self._after_failure(job, event, error)])
            done = None
        if done is not None:
            self._metrics.latency.observe(max(0, self._clock.now_ms() - done.occurred_at_ms) / 1000)
        with self._lock:
            self._offsets.done(place.topic, place.partition, place.offset, place.generation)

    async def _attempt(self, job: JobAttempt, place: _RecordPosition, key: str) -> tuple[Sequence[Output], E | None]:
        """Tries the job once (an outage of the provider is no attempt) and gives what goes on the log for it, and its
        event if it is done. Raises _LostError if it was not begun."""
        try:
            event = self._stage.event_type.model_validate_json(job.payload)
        except ValidationError as error:
            log.error("%s: a record that is no %s: %s", self._stage.name, self._stage.event_type.__name__, key)
            letter = job.failed(PermanentError(describe(error)), attempts=1, now_ms=self._clock.now_ms(), call_id=key)
            self._metrics.record_dead_letter("permanent")
            return [Output(Topic.DEAD_LETTERS, letter)], None
        if event.replay_id and not self._stage.replays:
            return (), None
        await self._clock.sleep(max(0, job.due_at_ms - self._clock.now_ms()) / 1000)
        lock = self._calls.setdefault(event.call_id, asyncio.Lock())
        while True:
            try:
                # One job of a call at a time: told twice, the second finds the result of the first.
                async with lock, self._slots, self._gate.passing(event.call_id):
                    if self._stage.turn is not None:
                        await self._stage.turn()
                    await self._rate.acquire()
                    self._check_ours(place)
                    with self._metrics.attempt():
                        outputs = await asyncio.wait_for(self._stage.handler(event), self._stage.timeout_s)
                self._metrics.attempted()
                return outputs, event
            except ProviderOutageError as error:
                self._metrics.attempted(error)
                log.warning("%s: provider away, %s waits: %s", self._stage.name, event.call_id, describe(error))
            except PartitionRevokedError:
                raise
            except Exception as error:
                self._metrics.attempted(error)
                return [self._after_failure(job, event, error)], None

    def _check_ours(self, place: _RecordPosition) -> None:
        """Raises _LostError if the record's new owner does its job: what waited here meanwhile is not begun."""
        with self._lock:
            if not self._offsets.is_current(place.topic, place.partition, place.generation):
                raise PartitionRevokedError

    def _after_failure(self, job: JobAttempt, event: E, error: Exception) -> Output:
        decision = decide(error, job.attempts, self._retry.delays_s)
        attempts = decision.attempts
        now = self._clock.now_ms()
        if isinstance(decision, GiveUp):
            self._metrics.record_dead_letter(decision.error_class)
            log.error(
                "%s: gave up on call %s after %d attempts: %s",
                self._stage.name,
                event.call_id,
                attempts,
                describe(error),
            )
            letter = job.failed(
                error, attempts=attempts, now_ms=now, call_id=event.call_id, tenant=event.tenant, part=event.part
            )
            return Output(Topic.DEAD_LETTERS, letter)
        log.warning(
            "%s: %d attempts for call %s failed, next in %g s: %s",
            self._stage.name,
            attempts,
            event.call_id,
            decision.delay_s,
            describe(error),
            exc_info=not isinstance(error, (StageError, TimeoutError)),
        )
        self._metrics.put_aside(error)
        again = job.scheduled(event, error, attempts=attempts, now_ms=now, delay_s=decision.delay_s)
        return Output(self._stage.retry, again)

    async def _send(self, outputs: Sequence[Output]) -> None:
        """Puts the outputs on the log, however long it is away: giving up would lose the result of the work. Raises
        EventTooLargeError."""
        topics = dict.fromkeys(output.topic for output in outputs)
        for topic in topics:
            events = [output.event for output in outputs if output.topic == topic]
            while True:
                try:
                    await self._producer.send_async(topic, events)
                    break
                except LogUnavailableError as error:
                    log.warning("%s: %s; trying again", self._stage.name, error)
                    await asyncio.sleep(1)


def _text(content: bytes | str | None) -> str:
    return content.decode(errors="replace") if isinstance(content, bytes) else (content or "")
