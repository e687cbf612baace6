"""Serves an aiohttp application with TLS on the loopback interface until SIGTERM; for the chDB and Qdrant shims."""

import asyncio
import signal
import ssl
from pathlib import Path

from aiohttp import web

from audiotext.embedded import certificates
from audiotext.embedded.server import LOOPBACK
from core import logs

_DRAIN_S = 2.0  # longest wait for open requests at the end


def serve(name: str, app: web.Application, port: int, data_dir: Path) -> None:
    """Serves on 127.0.0.1 until SIGTERM or SIGINT, finishes open requests, then cleans up the application.

    data_dir: has the certificate by which clients recognise the server.
    """
    logs.configure(name, "INFO")
    files = certificates.ensure(data_dir)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    asyncio.run(_serve(app, port, context))


async def wait_for_stop_signal() -> None:
    """Returns after SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()


async def _serve(app: web.Application, port: int, context: ssl.SSLContext) -> None:
    # Bodies stay compressed, because aiohttp would silently decompress only the first frame.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_DRAIN_S, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port, ssl_context=context).start()
        await wait_for_stop_signal()
    finally:
        await runner.cleanup()
