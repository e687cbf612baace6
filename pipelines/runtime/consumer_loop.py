"""Consumer loop of a slow stage: reads records from Kafka and runs one coroutine per job.

The broker removes a consumer that waits for a provider inside its poll loop from the group, and one slow call would
block all calls behind it. Here polling never waits. Jobs run as tasks, at most `stage.concurrency` at a time. Further
records wait in memory up to a limit; beyond it the partitions are paused while polling continues. Offsets are
committed up to the first unfinished record (pipelines.runtime.offsets).

Every job ends in one of three ways: its outputs, a record on the stage's retry topic, or a dead letter. Each is durable
on the log before the job's offset counts as done, so a crash at any line delivers the job again.
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
from pipelines.runtime.job_attempt import JobAttempt, attempt_from_record
from pipelines.runtime.metrics import StageMetrics
from pipelines.runtime.offsets import OffsetTracker
from pipelines.runtime.rate_limiter import SlidingWindowLimiter
from pipelines.runtime.retry import GiveUp, decide, describe
from pipelines.runtime.stage import E, Output, Stage
from pipelines.runtime.stall import ConsumerStalledError, Progress, StallDetector
from redpanda.client import EventProducer, EventTooLargeError, LogUnavailableError, consumer_config
from redpanda.commit_watchdog import CommitWatchdog
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_POLL_S = 0.1  # also the longest time that a finished job waits for its commit
_MAX_SCHEDULED = 2_000  # jobs of the retry schedule in memory; their records are small
# Records that are read ahead: per job that may run, and the minimum. After a pause the client needs up to a second to
# fetch again, so a few jobs that hang or wait for the log must not cause a pause.
_PREFETCH = 4
_MIN_PREFETCH = 64
_STALL_S = 120.0  # a consumer that receives nothing for this long while the log grows has stopped
_STALL_CHECK_TIMEOUT_S = 2.0  # for one request to the log about it; polling waits for the reply


def run_stage(settings: Settings, *stages: Stage[Any]) -> None:
    """Runs the stages until SIGTERM or SIGINT, then ends the process. Serves the metrics of the first stage.

    The exit code is 1 if a consumer has stopped and only a new process helps.

    Raises:
        LogUnavailableError: No log is configured, or a topic is missing.
    """
    asyncio.run(_run_until_signal(settings, stages))


async def _run_until_signal(settings: Settings, stages: Sequence[Stage[Any]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    code = 0
    try:
        unserved = settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"port": None})})
        runners = [Runner(unserved if number else settings, stage) for number, stage in enumerate(stages)]
        runs = [asyncio.create_task(runner.run(stop)) for runner in runners]
        ended, _ = await asyncio.wait(runs, return_when=asyncio.FIRST_EXCEPTION)
        for run in ended:
            run.result()
    except ConsumerStalledError as error:
        logger.critical("%s; exiting, so that the supervisor starts a new process", error)
        code = 1
    # A normal end of the loop would wait for its threads. Their work is not committed and will be done again.
    process.exit_now(code)


@dataclass(frozen=True, slots=True)
class _RecordPosition:
    """Position of a record on the log, and the assignment (generation) under which it was read."""

    topic: str
    partition: int
    offset: int
    generation: int


class PartitionRevokedError(Exception):
    """The job's partition was assigned to another process, which does the job."""


class Runner(Generic[E]):
    """Runs one stage in one process. `run` may be invoked once."""

    def __init__(
        self, settings: Settings, stage: Stage[E], *, clock: Clock | None = None, stall_s: float = _STALL_S
    ) -> None:
        """Creates the consumer and the producer. stall_s: seconds after which a consumer counts as stalled."""
        self._metrics = StageMetrics(stage.name, stage.registry)
        self._metrics_settings = settings.metrics
        self._stage = stage
        self._retry: RetrySettings = settings.retry
        self._clock = clock or SystemClock()
        self._consumer = Consumer(consumer_config(settings.kafka, stage.name))
        self._producer = EventProducer(settings.kafka)
        self._offsets = OffsetTracker()
        # Rebalance callbacks change the tracker in the polling thread, and jobs change it in the loop's thread.
        self._lock = threading.Lock()
        self._slots = asyncio.Semaphore(stage.concurrency)
        self._breaker = CircuitBreaker(settings.retry.outage_pause_s, self._clock)
        self._rate_limiter = SlidingWindowLimiter(stage.per_minute, self._clock)
        self._stall_detector = StallDetector(stall_s)
        self._stall_check_every_s = stall_s / 4
        self._stall_checked_s = time.monotonic()
        self._call_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._paused: frozenset[str] = frozenset()
        self._commit_watchdog = CommitWatchdog.for_log(settings.kafka, self._metrics.heartbeat.beat)
        self._metrics.watch(held=lambda: len(self._tasks), provider_away=lambda: self._breaker.is_open)

    async def run(self, stop: asyncio.Event) -> None:
        """Processes records until `stop` is set. Jobs in flight at that time are left to the next run."""
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        # One thread invokes the consumer: librdkafka runs the rebalance callbacks in it.
        with ThreadPoolExecutor(1, thread_name_prefix="poll") as poller:
            in_poller = partial(loop.run_in_executor, poller)
            self._consumer.subscribe(
                [self._stage.source, self._stage.retry],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            self._metrics.serve(self._metrics_settings, self._consumer, [self._stage.source, self._stage.retry])
            logger.info("%s: reading %s", self._stage.name, self._stage.source)
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

    # The following methods run in the polling thread.

    def _poll(self) -> Message | None:
        self._commit()
        self._pause_full_topics()
        self._check_stall()
        self._metrics.heartbeat.beat()  # each step above may have waited for an unreachable log
        message = self._consumer.poll(_POLL_S)
        self._metrics.record_poll(message)
        if message is None:
            return None
        error = message.error()
        if error is None:
            return message
        if error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise LogUnavailableError(
                f"{self._stage.name} cannot read from the log: {error.str()}; if topics are missing, run "
                "`audiotext topics apply`"
            )
        logger.warning("%s: error from the log: %s", self._stage.name, error.str())
        return None

    def _commit(self) -> None:
        with self._lock:
            positions = self._offsets.take_committable()
        refused = self._commit_positions(positions)
        with self._lock:
            for topic, number in refused:
                self._offsets.commit_failed(topic, number)

    def _commit_positions(self, positions: dict[tuple[str, int], int]) -> list[tuple[str, int]]:
        """Commits the positions and returns the partitions whose commit failed.

        Until a later commit succeeds, a crash only repeats finished work.
        """
        if not positions:
            return []
        offsets = [TopicPartition(topic, number, position) for (topic, number), position in positions.items()]
        try:
            with self._commit_watchdog:
                committed = self._consumer.commit(offsets=offsets, asynchronous=False) or []
        except KafkaException as error:
            logger.warning("%s: commit of offsets failed: %s", self._stage.name, error)
            return list(positions)
        refused = [place for place in committed if place.error is not None]
        for place in refused:
            logger.warning("%s: commit of an offset failed: %s", self._stage.name, place)
        return [(place.topic, place.partition) for place in refused]

    def _pause_full_topics(self) -> None:
        """Pauses each topic that has enough records in memory, and resumes the others."""
        limits = {
            self._stage.source: max(self._stage.concurrency * _PREFETCH, _MIN_PREFETCH),
            self._stage.retry: _MAX_SCHEDULED,
        }
        with self._lock:
            full = frozenset(topic for topic, limit in limits.items() if self._offsets.in_flight(topic) >= limit)
        if full == self._paused:
            return
        assigned = self._consumer.assignment()
        if pausing := [place for place in assigned if place.topic in full - self._paused]:
            self._consumer.pause(pausing)
        if resuming := [place for place in assigned if place.topic in self._paused - full]:
            self._consumer.resume(resuming)
        self._paused = full

    def _check_stall(self) -> None:
        """Checks from time to time that the consumer still receives the records on the log.

        Raises:
            ConsumerStalledError: It does not.
        """
        now_s = time.monotonic()
        if now_s - self._stall_checked_s < self._stall_check_every_s:
            return
        self._stall_checked_s = now_s
        try:
            seen = self._progress()
        except KafkaException as error:
            logger.debug("%s: the log does not report its offsets: %s", self._stage.name, error)
            seen = {}
        if stalled := self._stall_detector.observe(now_s, seen):
            partitions = ", ".join(f"{topic}[{number}]" for topic, number in stalled)
            raise ConsumerStalledError(f"{self._stage.name} receives nothing from {partitions} although the log grows")

    def _progress(self) -> dict[tuple[str, int], Progress]:
        """Returns the progress of each partition that is read; empty if the log does not report it.

        Raises:
            KafkaException: The log does not reply.
        """
        found = {}
        for place in self._consumer.position(self._consumer.assignment()):
            if place.topic in self._paused:
                continue
            # Before its first record a partition has no position; 0 does not move either.
            bounds = self._consumer.get_watermark_offsets(place, _STALL_CHECK_TIMEOUT_S, cached=False)
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
        self._drop(partitions)  # another process owns them already, so there is nothing to commit

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
        self._commit_watchdog.stop()

    # The following methods run in the loop's thread.

    def _receive(self, message: Message) -> None:
        topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        with self._lock:
            generation = self._offsets.start(topic, number, offset)
        if generation is None:
            return
        task = asyncio.create_task(self._process(_RecordPosition(topic, number, offset, generation), message))
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        """Ends the process if the task failed: that is a defect or an unusable log.

        Only finished work has been committed by then.
        """
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and self._failed and not self._failed.done():
            self._failed.set_exception(error)

    async def _process(self, position: _RecordPosition, message: Message) -> None:
        """Processes one record: writes its outputs, retry or dead letter to the log, then marks its offset as done."""
        job = attempt_from_record(
            self._stage.name,
            self._stage.retry,
            topic=position.topic,
            partition=position.partition,
            offset=position.offset,
            value=_text(message.value()),
        )
        try:
            outcome, done = await self._attempt(job, position, key=_text(message.key()))
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
            self._offsets.done(position.topic, position.partition, position.offset, position.generation)

    async def _attempt(self, job: JobAttempt, position: _RecordPosition, key: str) -> tuple[Sequence[Output], E | None]:
        """Tries the job once; an outage of the provider does not count as an attempt.

        Returns the outputs to write to the log, and the event if the job is done.

        Raises:
            PartitionRevokedError: The job was not started, because the partition has a new owner.
        """
        try:
            event = self._stage.event_type.model_validate_json(job.payload)
        except ValidationError as error:
            logger.error("%s: invalid %s of call %s", self._stage.name, self._stage.event_type.__name__, key)
            dead_letter = job.dead_letter(
                PermanentError(describe(error)), attempts=1, now_ms=self._clock.now_ms(), call_id=key
            )
            self._metrics.record_dead_letter("permanent")
            return [Output(Topic.DEAD_LETTERS, dead_letter)], None
        if event.replay_id and not self._stage.replays:
            return (), None
        await self._clock.sleep(max(0, job.due_at_ms - self._clock.now_ms()) / 1000)
        lock = self._call_locks.setdefault(event.call_id, asyncio.Lock())
        while True:
            try:
                # One job of a call at a time: if its event arrives twice, the second finds the result of the first.
                async with lock, self._slots, self._breaker.guard(event.call_id):
                    if self._stage.admission is not None:
                        await self._stage.admission()
                    await self._rate_limiter.acquire()
                    self._raise_if_revoked(position)
                    with self._metrics.attempt():
                        outputs = await asyncio.wait_for(self._stage.handler(event), self._stage.timeout_s)
                self._metrics.record_attempt()
                return outputs, event
            except ProviderOutageError as error:
                self._metrics.record_attempt(error)
                logger.warning("%s: provider away, call %s waits: %s", self._stage.name, event.call_id, describe(error))
            except PartitionRevokedError:
                raise
            except Exception as error:
                self._metrics.record_attempt(error)
                return [self._after_failure(job, event, error)], None

    def _raise_if_revoked(self, position: _RecordPosition) -> None:
        """Raises PartitionRevokedError if the partition was revoked while the job waited: its new owner does it."""
        with self._lock:
            if not self._offsets.is_current(position.topic, position.partition, position.generation):
                raise PartitionRevokedError

    def _after_failure(self, job: JobAttempt, event: E, error: Exception) -> Output:
        decision = decide(error, job.attempts, self._retry.delays_s)
        attempts = decision.attempts
        now = self._clock.now_ms()
        if isinstance(decision, GiveUp):
            self._metrics.record_dead_letter(decision.error_class)
            logger.error(
                "%s: call %s became a dead letter after %d attempts: %s",
                self._stage.name,
                event.call_id,
                attempts,
                describe(error),
            )
            dead_letter = job.dead_letter(
                error, attempts=attempts, now_ms=now, call_id=event.call_id, tenant=event.tenant, part=event.part
            )
            return Output(Topic.DEAD_LETTERS, dead_letter)
        logger.warning(
            "%s: call %s failed %d times, next attempt in %g s: %s",
            self._stage.name,
            event.call_id,
            attempts,
            decision.delay_s,
            describe(error),
            exc_info=not isinstance(error, (StageError, TimeoutError)),
        )
        self._metrics.record_retry(error)
        retry = job.retry_event(event, error, attempts=attempts, now_ms=now, delay_s=decision.delay_s)
        return Output(self._stage.retry, retry)

    async def _send(self, outputs: Sequence[Output]) -> None:
        """Writes the outputs to the log and retries while it is unreachable: giving up would lose the result.

        Raises:
            EventTooLargeError: An event is larger than the log accepts.
        """
        topics = dict.fromkeys(output.topic for output in outputs)
        for topic in topics:
            events = [output.event for output in outputs if output.topic == topic]
            while True:
                try:
                    await self._producer.send_async(topic, events)
                    break
                except LogUnavailableError as error:
                    logger.warning("%s: %s; retrying", self._stage.name, error)
                    await asyncio.sleep(1)


def _text(content: bytes | str | None) -> str:
    return content.decode(errors="replace") if isinstance(content, bytes) else (content or "")
