"""Client for the part of the HTTP API that the demo uses."""

import asyncio
from types import TracebackType
from typing import Any

import aiohttp

from core.errors import UserError

Json = dict[str, Any]


class ApiError(UserError):
    """The API answered with an error, or did not answer."""


class ApiClient:
    """Client of the API at `base_url` with a key. Use it as an async context manager."""

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url = base_url
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ApiClient":
        self._session = aiohttp.ClientSession(
            self._base_url, headers={"Authorization": f"Bearer {self._key}"}, timeout=aiohttp.ClientTimeout(total=10)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def get(self, path: str, **query: str) -> Json:
        """Returns the JSON object at a path. Raises ApiError for any other answer."""
        assert self._session is not None
        try:
            async with self._session.get(path, params=query) as response:
                if response.status != 200:
                    raise ApiError(f"{path} answered {response.status}: {(await response.text())[:200]}")
                body: Json = await response.json()
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(f"{path}: {error!r}") from None

    async def call(self, call_id: str) -> Json | None:
        """Returns the document of a call, or None while the API has none or does not answer."""
        try:
            return await self.get(f"/v1/calls/{call_id}")
        except ApiError:
            return None

    async def finished(self, call_id: str, timeout_s: float) -> Json | None:
        """Returns the document of a call when it is complete or failed, or None after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    call = await self.call(call_id)
                    if call is not None and call["status"] in ("complete", "failed"):
                        return call
                    await asyncio.sleep(0.25)
        except TimeoutError:
            return None
