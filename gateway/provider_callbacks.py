"""Providers tell that an order is done: a webhook becomes a record on the log, where the stage that waits finds it.

Nothing hangs on it: whoever waits for an order goes on asking the provider. So a notice that the log does not take is
refused, and the provider tells again.
"""

import asyncio
import hmac
import logging
import time
from typing import Literal, Protocol

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from core.settings import Settings
from redpanda.client import EventProducer, LogUnavailableError
from schemas.events import OrderNotice
from schemas.ids import uuid_of
from schemas.provider_callbacks import WEBHOOK_HEADER
from schemas.topics import Topic

log = logging.getLogger(__name__)

_MAX_BYTES = 4096  # of a notice, which has an id and a word
_BODY_S = 5.0
_LOG_S = 5.0


class Producer(Protocol):
    """What puts notices on the log."""

    async def send_async(self, topic: str, events: list[OrderNotice], timeout_s: float) -> None: ...


class _Body(BaseModel):
    id: str = Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")
    status: Literal["completed", "error", "failed"]


class ProviderCallbacks:
    """/v1/notices/soniox. Without `soniox.webhook_secret` everybody is refused."""

    def __init__(self, settings: Settings, producer: Producer | None = None) -> None:
        self._settings = settings
        self._secret = settings.soniox.webhook_secret
        self._producer = producer

    async def soniox(self, request: web.Request) -> web.Response:
        """A transcription is completed or has failed."""
        secret = self._secret.get_secret_value() if self._secret else ""
        given = request.headers.get(WEBHOOK_HEADER, "")
        if not secret or not hmac.compare_digest(given.encode(errors="surrogateescape"), secret.encode()):
            log.warning("a notice that proves nothing was refused")
            raise web.HTTPForbidden(text="forbidden")
        if (request.content_length or 0) > _MAX_BYTES:
            raise web.HTTPRequestEntityTooLarge(_MAX_BYTES, request.content_length or 0)
        try:
            async with asyncio.timeout(_BODY_S):
                body = _Body.model_validate_json(await request.content.read(_MAX_BYTES))
        except (ValidationError, TimeoutError):
            raise web.HTTPBadRequest(text="no notice") from None
        notice = OrderNotice(
            event_id=uuid_of("order.notice", "soniox", body.id, body.status),
            call_id="",
            tenant="",
            occurred_at_ms=time.time_ns() // 1_000_000,
            provider="soniox",
            remote_id=body.id,
            status=body.status,
        )
        try:
            if self._producer is None:
                self._producer = EventProducer(self._settings.kafka)
            await self._producer.send_async(Topic.PROVIDER_NOTICES, [notice], _LOG_S)
        except LogUnavailableError as error:
            log.warning("a notice was not taken: %s", error)
            raise web.HTTPServiceUnavailable(text="try again") from None
        return web.Response(status=204)
