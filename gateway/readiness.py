"""Readiness of the gateway: the parts that are missing to accept a call."""

import asyncio
import time
from collections.abc import Mapping

from gateway.producer.log_producer import LogProducer
from gateway.proxy import Proxy
from redpanda.client import LogUnavailableError
from schemas.topics import Topic

_CACHE_S = 1.0  # age up to which a result is returned again, so that many requests cost no more than one
_REQUIRED_TOPICS = (Topic.CALL_MEDIA, Topic.CALL_EVENTS)


class Readiness:
    """Checks the log, and the API if one is configured."""

    def __init__(self, producer: LogProducer, api: Proxy | None) -> None:
        self._producer = producer
        self._api = api
        self._lock = asyncio.Lock()
        self._checked_s = float("-inf")
        self._missing: Mapping[str, str] = {}

    async def missing(self) -> Mapping[str, str]:
        """Returns the missing parts with the reason for each; empty if the gateway can accept calls."""
        async with self._lock:
            if time.monotonic() - self._checked_s > _CACHE_S:
                log, api = await asyncio.gather(self._log_missing(), self._api_missing())
                self._missing = {**log, **api}
                self._checked_s = time.monotonic()
            return self._missing

    async def _log_missing(self) -> dict[str, str]:
        try:
            topics = await self._producer.probe(timeout_s=2.0)
        except LogUnavailableError as error:
            return {"log": str(error)}
        absent = [topic for topic in _REQUIRED_TOPICS if topic not in topics]
        return {"topics": f"missing: {', '.join(absent)}; run `audiotext topics apply`"} if absent else {}

    async def _api_missing(self) -> Mapping[str, str]:
        return {} if self._api is None else await self._api.missing()
