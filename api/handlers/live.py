"""Live calls as server-sent events."""

import asyncio
import contextlib

from aiohttp import web

from api.auth.authentication import AUTHENTICATOR_CHAIN
from api.endpoint import ApiRequest
from api.errors import ApiError
from api.handlers.calls import list_item
from api.live.hub import Subscriber
from api.params import NoQuery
from sinks.clickhouse.call_list_query import CallFilter

_INITIAL_CALLS = 100  # newest live calls, sent at the start
_REAUTHENTICATE_S = 4.0  # interval of credential checks and of comments that keep proxies from closing the connection


async def watch(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Sends the live calls first, then each changed call, and the audio levels."""
    context = api_request.context
    # Subscribes before the query, so that no change between the two is missed.
    async with context.live.subscribe(api_request.tenant) as subscriber:
        calls, _ = await context.clickhouse(
            context.calls.list_calls, CallFilter(api_request.tenant, status="live"), limit=_INITIAL_CALLS
        )
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # makes nginx pass events on at once
            }
        )
        await response.prepare(api_request.request)
        with contextlib.suppress(ConnectionError):  # the client has disconnected
            await response.write(b"retry: 1000\n\n")
            for call in reversed(calls):
                await response.write(_event("call", list_item(call).model_dump_json()))
            await _send_messages(api_request, response, subscriber)
    return response


async def _send_messages(api_request: ApiRequest, response: web.StreamResponse, subscriber: Subscriber) -> None:
    loop = asyncio.get_running_loop()
    check_at = loop.time() + _REAUTHENTICATE_S
    while True:
        if loop.time() >= check_at:
            try:
                principal = await api_request.request.app[AUTHENTICATOR_CHAIN].principal(api_request.request)
            except ApiError:
                return
            if principal.scope != api_request.principal.scope:
                return  # the client must connect again to see the other tenant's calls
            await response.write(b": still here\n\n")
            check_at = loop.time() + _REAUTHENTICATE_S
        try:
            message = await asyncio.wait_for(subscriber.messages.get(), check_at - loop.time())
        except TimeoutError:
            continue
        if message is None:
            return
        await response.write(_event(*message))


def _event(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()
