"""Callbacks of providers about finished orders: each becomes a record on the log for the waiting stage.

A callback is only a hint, because the stage also polls the provider. If the log is unavailable, the callback is
rejected and the provider sends it again.
"""

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

logger = logging.getLogger(__name__)

_MAX_BYTES = 4096  # of a callback's body, which has an id and a status
_SEND_TIMEOUT_S = 5.0


class Producer(Protocol):
    """Writer of notices to the log."""

    async def send_async(self, topic: str, events: list[OrderNotice], timeout_s: float) -> None:
        """Writes the events. Raises LogUnavailableError after `timeout_s`."""


class _Body(BaseModel):
    id: str = Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")
    status: Literal["completed", "error", "failed"]


class ProviderCallbacks:
    """Handler of /v1/notices/soniox. Without `soniox.webhook_secret` every request is rejected."""

    def __init__(self, settings: Settings, producer: Producer | None = None) -> None:
        self._settings = settings
        self._secret = settings.soniox.webhook_secret
        self._producer = producer

    async def soniox(self, request: web.Request) -> web.Response:
        """Handles a callback of Soniox: a transcription is completed or has failed."""
        secret = self._secret.get_secret_value() if self._secret else ""
        given = request.headers.get(WEBHOOK_HEADER, "")
        if not secret or not hmac.compare_digest(given.encode(errors="surrogateescape"), secret.encode()):
            logger.warning("rejected a provider callback with a wrong or missing secret")
            raise web.HTTPForbidden(text="forbidden")
        content = await request.read()  # the connection guard has read it before
        if len(content) > _MAX_BYTES:
            raise web.HTTPRequestEntityTooLarge(_MAX_BYTES, len(content))
        try:
            body = _Body.model_validate_json(content)
        except ValidationError:
            raise web.HTTPBadRequest(text="not a valid callback") from None
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
            await self._producer.send_async(Topic.PROVIDER_NOTICES, [notice], _SEND_TIMEOUT_S)
        except LogUnavailableError as error:
            logger.warning("rejected a provider callback because the log is unavailable: %s", error)
            raise web.HTTPServiceUnavailable(text="try again") from None
        return web.Response(status=204)
