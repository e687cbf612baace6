"""A slow stage whose provider never answers, in a process of its own, so that it can be killed.

Arguments: the log's address, the stage's name; its topics are NAME.in and NAME.retry. Prints each call it begins.
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
