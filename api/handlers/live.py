"""Calls as they go on, as server-sent events."""

import asyncio
import contextlib

from aiohttp import web

from api.auth.authentication import DOOR
from api.endpoint import ApiRequest
from api.errors import ApiError
from api.handlers.calls import list_item
from api.live.hub import Subscriber
from api.params import NoQuery

_LIVE_AT_FIRST = 100  # newest calls that are told of at once
_ASK_AGAIN_S = 4.0  # whether what proves who watches is still good; also keeps proxies from hanging up


async def watch(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """First the calls that go on, then what changes, and how loud they are."""
    services = asked.services
    async with services.live.watch(asked.tenant) as watcher:  # before the question, so that nothing falls between
        calls, _ = await services.clickhouse(
            services.calls.list_calls, tenant=asked.tenant, status="live", limit=_LIVE_AT_FIRST
        )
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would collect
            }
        )
        await response.prepare(asked.request)
        with contextlib.suppress(ConnectionError):  # whoever watched has left
            await response.write(b"retry: 1000\n\n")
            for call in reversed(calls):
                await response.write(_event("call", list_item(call).model_dump_json()))
            await _pump(asked, response, watcher)
    return response


async def _pump(asked: ApiRequest, response: web.StreamResponse, watcher: Subscriber) -> None:
    loop = asyncio.get_running_loop()
    ask_again = loop.time() + _ASK_AGAIN_S
    while True:
        if loop.time() >= ask_again:
            try:
                principal = await asked.request.app[DOOR].principal(asked.request)
            except ApiError:
                return
            if principal.tenant != asked.principal.tenant:
                return  # whoever asks again sees the calls of the other
            await response.write(b": still here\n\n")
            ask_again = loop.time() + _ASK_AGAIN_S
        try:
            message = await asyncio.wait_for(watcher.messages.get(), ask_again - loop.time())
        except TimeoutError:
            continue
        if message is None:
            return
        await response.write(_event(*message))


def _event(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()
