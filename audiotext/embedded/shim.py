"""Serves an aiohttp application on the loopback until told to end: what the shims over chDB and Qdrant share."""

import asyncio
import signal

from aiohttp import web

from audiotext.embedded.server import LOOPBACK
from core import logs

_DRAIN_S = 2.0  # how long requests under way are waited for at the end


def serve(name: str, app: web.Application, port: int) -> None:
    """Serves on 127.0.0.1 until SIGTERM or SIGINT, ends requests under way, then cleans up the application."""
    logs.configure(name, "INFO")
    asyncio.run(_serve(app, port))


async def until_told_to_end() -> None:
    """Returns on SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()


async def _serve(app: web.Application, port: int) -> None:
    # Bodies come as they were sent: aiohttp would unpack only the first frame of a compressed one, and say nothing.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_DRAIN_S, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        await until_told_to_end()
    finally:
        await runner.cleanup()
