"""Worker in its own process that kills or freezes itself right after a given step.

A step is one request to object storage or provider. "After" means that its effect exists and the worker does not know
it yet, as when an answer is lost.
"""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

from core.settings import PricingSettings, S3Settings, SonioxSettings
from pipelines.jobs.remote_orders import Timing
from pipelines.providers.soniox.transcriber import Soniox
from pipelines.runtime.errors import RetryableError
from pipelines.transcribe.handler import TranscribeHandler
from schemas.events import RecordingReady
from sinks.object_store import ObjectStore
from tests.fakes.soniox_rules import KEY

TIMING = Timing(order_s=0.6, settle_s=0.3, poll_s=0.02)

_CALLS = ("find", "get_versioned", "compare_and_swap", "put", "get", "prepare", "submit", "result", "bill", "release")


def client(url: str) -> Soniox:
    """Returns a client of the fake Soniox at that address."""
    return Soniox(SonioxSettings(base_url=url), KEY)


@dataclass(frozen=True)
class Fault:
    """Signal that the process sends to itself after request number `step` (from 1), whatever its result."""

    step: int
    signal: signal.Signals


class Steps:
    """Counts requests and sends the signal of the fault."""

    def __init__(self, fault: Fault | None) -> None:
        self._fault = fault
        self._count = 0

    def watch(self, target: Any) -> None:
        """Counts the requests of the target from now on."""
        for name in _CALLS:
            if hasattr(target, name):
                setattr(target, name, self._counted(getattr(target, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        if asyncio.iscoroutinefunction(call):

            async def waited(*args: Any, **more: Any) -> Any:
                try:
                    return await call(*args, **more)
                finally:
                    self._strike()

            return waited

        def done(*args: Any, **more: Any) -> Any:
            try:
                return call(*args, **more)
            finally:
                self._strike()

        return done

    def _strike(self) -> None:
        self._count += 1
        if self._fault and self._count == self._fault.step:
            os.kill(os.getpid(), self._fault.signal)


def processes() -> ForkServerContext:
    """Returns a context whose processes start within milliseconds, with all imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.order_worker"])
    return context


def start(
    context: ForkServerContext, url: str, s3: S3Settings, event: RecordingReady, fault: Fault | None
) -> BaseProcess:
    """Starts a worker. Its exit code is 0 when the job is done."""
    process = context.Process(target=_work, args=(url, s3, event, fault), daemon=True)
    process.start()
    return process


def _work(url: str, s3: S3Settings, event: RecordingReady, fault: Fault | None) -> None:
    jobs, objects = client(url), ObjectStore(s3)
    steps = Steps(fault)
    steps.watch(jobs)
    steps.watch(objects)
    asyncio.run(_until_done(TranscribeHandler(jobs, objects, PricingSettings(), TIMING), event))


async def _until_done(handler: TranscribeHandler, event: RecordingReady) -> None:
    """Runs the job like the runtime does, with shorter delays."""
    while True:
        try:
            outputs = await handler(event)
            assert len(outputs) == 2
            return
        except (RetryableError, TimeoutError) as error:
            wait_s = error.retry_after_s if isinstance(error, RetryableError) else None
            await asyncio.sleep(wait_s or 0.05)
