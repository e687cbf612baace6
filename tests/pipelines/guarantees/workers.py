"""Workers that fail after a given step, in the process of the test.

A step is one call of a store or of a provider. A worker runs in a thread with an event loop of its own, so that a
frozen worker is frozen as a whole, and a test can kill, freeze and resume it hundreds of times within seconds.
`remote_worker` does the same to real processes with real signals, for one handler.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import Any, TypeVar

from pipelines.runtime.errors import QuotaError, RetryableError
from pipelines.runtime.stage import Output
from schemas.events import Event, UsageRecorded
from sinks.clickhouse.call_queries import CallStore
from sinks.clickhouse.client import StoreUnavailableError
from sinks.clickhouse.replay_queries import ReplayStore
from sinks.object_store import ObjectStore, ObjectStoreError
from sinks.qdrant.store import VectorStore, VectorStoreError

T = TypeVar("T")

WINDOW_S = 0.25
"""Longer than a worker with `stages.TIMING` may take to order after it has claimed the order."""

_GIVES_UP_S = 20.0  # a delivery that takes longer has come to no end
_PAUSE_S = 0.01  # between two attempts, unless the error says how long
_WRITES = {"ObjectStore.put", "ObjectStore.compare_and_swap"}
_PURE = {"config", "presigned", "key_from_url", "billed", "close", "check"}
_ERRORS: dict[type, Callable[[str], Exception]] = {
    ObjectStore: ObjectStoreError,
    VectorStore: VectorStoreError,
    CallStore: StoreUnavailableError,
    ReplayStore: StoreUnavailableError,
}

_inside: ContextVar[tuple[int, ...]] = ContextVar("inside", default=())


class Killed(BaseException):
    """The worker is dead: nothing it does has an effect any more."""


class Fault(Enum):
    """What happens at a step.

    KILL: it has its effect, and the worker is dead. LOSE: it has its effect, and its answer is lost. FAIL: it has no
    effect, and fails. FREEZE: it has its effect, and the whole worker stops until it is resumed. HANG: it begins only
    after longer than the window for ordering; the worker's other tasks are not held up.
    """

    KILL = "kill"
    LOSE = "lose"
    FAIL = "fail"
    FREEZE = "freeze"
    HANG = "hang"


@dataclass
class Steps:
    """The calls that one worker makes, and the fault at one of them.

    at: the step with the fault, from 1. of: only calls of this class are counted.
    """

    fault: Fault | None = None
    at: int = 0
    of: str = ""
    names: list[str] = field(default_factory=list)
    struck: str = ""
    struck_at: threading.Event = field(default_factory=threading.Event)
    resumed: threading.Event = field(default_factory=threading.Event)
    _dead: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ends_of_runs(self) -> list[int]:
        """The steps that were made, but of more than two calls of the same name in a row the first and the last."""
        runs = [list(run) for _, run in groupby(range(len(self.names)), lambda at: self.names[at])]
        return sorted({at + 1 for run in runs for at in (run[0], run[-1])})

    def lost(self, request: str) -> int:
        """1 if the fault struck after a request of that name had its answer and before that was stored, else 0."""
        steps = self.names[: self.at]
        if self.fault is Fault.FAIL:
            steps = steps[:-1]
        since = steps[::-1].index(request) if request in steps else 0
        return int(request in steps and not _WRITES & set(steps[len(steps) - since :]))

    def watch(self, target: T) -> T:
        """Makes each public call of the target a step. A call inside another one of the same target is none."""
        names = [name for name, _ in inspect.getmembers(type(target), callable)]
        return self.watch_only(target, *(name for name in names if not name.startswith("_") and name not in _PURE))

    def watch_only(self, target: T, *names: str) -> T:
        """Makes the calls of these names steps."""
        make_error = _ERRORS.get(type(target), RetryableError)
        for name in names:
            setattr(target, name, self._step(target, name, getattr(target, name), make_error))
        return target

    def _step(self, target: object, name: str, call: Callable[..., Any], error: Callable[[str], Exception]) -> Any:
        label = f"{type(target).__name__}.{name}"

        if inspect.iscoroutinefunction(call):

            async def waited(*args: Any, **more: Any) -> Any:
                if id(target) in _inside.get():
                    return await call(*args, **more)
                fault = self._begin(label)
                if fault is Fault.HANG:
                    self.struck_at.set()
                    await asyncio.sleep(2 * WINDOW_S)
                if fault is Fault.FAIL:
                    raise error(f"{label} fails")
                token = _inside.set((*_inside.get(), id(target)))
                try:
                    result = await call(*args, **more)
                finally:
                    _inside.reset(token)
                    self._end(fault)
                if fault is Fault.LOSE:
                    raise error(f"the answer of {label} is lost")
                return result

            return waited

        def done(*args: Any, **more: Any) -> Any:
            if id(target) in _inside.get():
                return call(*args, **more)
            fault = self._begin(label)
            if fault is Fault.HANG:
                self.struck_at.set()
                time.sleep(2 * WINDOW_S)
            if fault is Fault.FAIL:
                raise error(f"{label} fails")
            token = _inside.set((*_inside.get(), id(target)))
            try:
                result = call(*args, **more)
                if inspect.isgenerator(result):
                    result = iter(list(result))
            finally:
                _inside.reset(token)
                self._end(fault)
            if fault is Fault.LOSE:
                raise error(f"the answer of {label} is lost")
            return result

        return done

    def _begin(self, label: str) -> Fault | None:
        with self._lock:
            if self._dead:
                raise Killed
            if not label.startswith(self.of):
                return None
            self.names.append(label)
            if len(self.names) != self.at:
                return None
            self.struck = label
            return self.fault

    def _end(self, fault: Fault | None) -> None:
        if fault is Fault.KILL:
            self._dead = True
            self.struck_at.set()
            raise Killed
        if fault is Fault.FREEZE:
            self.struck_at.set()
            self.resumed.wait(_GIVES_UP_S)
        if self._dead:
            raise Killed


@dataclass(frozen=True)
class Delivered:
    """How the deliveries of an event ended. outputs: None if the worker was killed. attempts: deliveries it took."""

    outputs: Sequence[Output] | None
    attempts: int

    @property
    def lines(self) -> list[UsageRecorded]:
        """The ledger lines among the outputs."""
        return [one.event for one in self.outputs or () if isinstance(one.event, UsageRecorded)]

    @property
    def events(self) -> list[tuple[str, str]]:
        """Topics and events, to the byte."""
        return [(one.topic, one.event.model_dump_json()) for one in self.outputs or ()]


Work = Callable[[Event], Awaitable[Sequence[Output]]]
MakeWork = Callable[[Steps], Callable[[Any], Awaitable[Sequence[Output]]]]
"""Gives a worker's handler, whose stores and provider are watched by these steps."""


async def deliver(make: MakeWork, event: Event, steps: Steps | None = None) -> Delivered:
    """Delivers the event to a new worker until it is done or dead. Raises what is not worth another attempt."""
    return await asyncio.to_thread(_worker_life, make, event, steps or Steps())


def start(make: MakeWork, event: Event, steps: Steps) -> "asyncio.Task[Delivered]":
    """The same, on its way."""
    return asyncio.create_task(deliver(make, event, steps))


async def struck(steps: Steps, delivery: "asyncio.Task[Delivered]") -> bool:
    """Waits until the fault has struck, or the worker has come to its end without it."""
    while not delivery.done():
        if steps.struck_at.is_set():
            return True
        await asyncio.sleep(0.002)
    return steps.struck_at.is_set()


def _worker_life(make: MakeWork, event: Event, steps: Steps) -> Delivered:
    return asyncio.run(_until_done(make, event, steps))


async def _until_done(make: MakeWork, event: Event, steps: Steps) -> Delivered:
    """Does what the runtime does, with a faster schedule."""
    work = make(steps)
    attempts = 0
    async with asyncio.timeout(_GIVES_UP_S):
        while True:
            attempts += 1
            try:
                return Delivered(await work(event), attempts)
            except Killed:
                return Delivered(None, attempts)
            except (RetryableError, QuotaError, TimeoutError) as error:
                wait_s = error.retry_after_s if isinstance(error, RetryableError) else None
                await asyncio.sleep(_PAUSE_S if wait_s is None else wait_s)
