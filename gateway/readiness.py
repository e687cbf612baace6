"""Readiness of the gateway: the parts that are missing to accept a call, and those that only the API misses."""

import asyncio
import time
from collections.abc import Mapping

from gateway.producer.log_producer import LogProducer
from gateway.proxy import Proxy
from redpanda.client import LogUnavailableError
from schemas.topics import Topic

_CACHE_S = 1.0  # age up to which a result is returned again, so that many requests cost no more than one
_MISSING_CACHE_S = 0.1  # the same while the API misses something, so that a start is noticed soon
_REQUIRED_TOPICS = (Topic.CALL_MEDIA, Topic.CALL_EVENTS)


class Readiness:
    """Checks the log, and the API if one is configured. Calls are accepted without the API."""

    def __init__(self, producer: LogProducer, api: Proxy | None) -> None:
        self._producer = producer
        self._api = api
        self._lock = asyncio.Lock()
        self._checked_s = float("-inf")
        self._missing: Mapping[str, str] = {}
        self._api_missing: Mapping[str, str] = {"api": "not checked yet"} if api else {}
        self._api_checked_s = float("-inf")
        self._api_check: asyncio.Task[None] | None = None

    async def missing(self) -> Mapping[str, str]:
        """Returns the missing parts with the reason for each; empty if the gateway can accept calls."""
        async with self._lock:
            if time.monotonic() - self._checked_s > _CACHE_S:
                self._missing = await self._log_missing()
                self._checked_s = time.monotonic()
            return self._missing

    def api_missing(self) -> Mapping[str, str]:
        """Returns what the API missed at its last check, and starts the next check. Never waits for the API."""
        cache_s = _MISSING_CACHE_S if self._api_missing else _CACHE_S
        idle = self._api_check is None or self._api_check.done()
        if self._api is not None and idle and time.monotonic() - self._api_checked_s > cache_s:
            self._api_check = asyncio.ensure_future(self._check_api(self._api))
        return self._api_missing

    async def _check_api(self, api: Proxy) -> None:
        self._api_missing = await api.missing()
        self._api_checked_s = time.monotonic()

    async def _log_missing(self) -> dict[str, str]:
        try:
            topics = await self._producer.probe(timeout_s=2.0)
        except LogUnavailableError as error:
            return {"log": str(error)}
        absent = [topic for topic in _REQUIRED_TOPICS if topic not in topics]
        return {"topics": f"missing: {', '.join(absent)}; run `audiotext topics apply`"} if absent else {}
