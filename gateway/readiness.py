"""Whether a call can be taken now, and if not, what is missing."""

import asyncio
import time
from collections.abc import Mapping

from gateway.producer.log_producer import LogProducer
from gateway.proxy import Proxy
from redpanda.client import LogUnavailableError
from schemas.topics import Topic

_FRESH_S = 1.0  # an answer this old is given again, so that many askers cost no more than one
_NEEDED = (Topic.CALL_MEDIA, Topic.CALL_EVENTS)


class Readiness:
    """Asks the log, and the API if there is one, when asked."""

    def __init__(self, writer: LogProducer, api: Proxy | None) -> None:
        self._writer = writer
        self._api = api
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._missing: Mapping[str, str] = {}

    async def missing(self) -> Mapping[str, str]:
        """What keeps calls from being taken, by part; empty when nothing does."""
        async with self._lock:
            if time.monotonic() - self._asked_at > _FRESH_S:
                log, api = await asyncio.gather(self._log(), self._api_missing())
                self._missing = {**log, **api}
                self._asked_at = time.monotonic()
            return self._missing

    async def _log(self) -> dict[str, str]:
        try:
            topics = await self._writer.probe(timeout_s=2.0)
        except LogUnavailableError as error:
            return {"log": str(error)}
        absent = [topic for topic in _NEEDED if topic not in topics]
        return {"topics": f"missing: {', '.join(absent)}; run `audiotext topics apply`"} if absent else {}

    async def _api_missing(self) -> Mapping[str, str]:
        return {} if self._api is None else await self._api.missing()
