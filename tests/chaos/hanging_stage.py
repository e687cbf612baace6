"""Slow stage whose provider never answers, in its own process, which can be killed.

Arguments: address of the log, name of the stage. Its topics are NAME.in and NAME.retry. Prints each call that it
begins.
"""

import asyncio
import sys
from collections.abc import Sequence

from core.settings import KafkaSettings, Settings
from pipelines.runtime.consumer_loop import run_stage
from pipelines.runtime.stage import Output, Stage
from schemas.events import StreamEnded


async def _hang(event: StreamEnded) -> Sequence[Output]:
    print(event.call_id, flush=True)
    await asyncio.Event().wait()
    return []


if __name__ == "__main__":
    bootstrap, name = sys.argv[1:]
    kafka = KafkaSettings(bootstrap_servers=bootstrap, session_timeout_ms=6_000)
    run_stage(Settings(kafka=kafka), Stage(name, f"{name}.in", f"{name}.retry", StreamEnded, _hang, 8, 3600))
